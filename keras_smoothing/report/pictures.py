"""Finds the images of a run by their digests, and shows them."""

import base64
import io

import numpy as np

from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.utils import example_digest

# Number of images shown of each kind.
_SHOWN = 8


def find_images(name, result, images):
    """Returns the images of a result's examples, in the result's order.

    Args:
        name: str, the name of the result.
        result: `CertificationResult` with digests.
        images: float array, shape `(n, height, width, channels)`.

    Returns:
        float32 array, shape `(examples, height, width, channels)`.

    Raises:
        ValueError: if an image is missing, or if the arrays are not images.
    """
    # Must have the dtype that was certified, or digests differ.
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "Expected images of shape (examples, height, width, channels), "
            f"with one channel or three. Received: shape {images.shape}"
        )
    if result.digest is None:
        raise ValueError(
            "Expected runs whose examples have digests, to find their images "
            f"by. Received: {name} without, as of a six-column log"
        )
    where = {example_digest(image): i for i, image in enumerate(images)}
    for i, digest in enumerate(result.digest):
        if digest not in where:
            raise ValueError(
                "Expected images with all examples of the runs among them. "
                f"Received: {len(images)} images, none of which is example "
                f"{_number(result, i)} of {name} (digest {digest})"
            )
    return images[[where[digest] for digest in result.digest]]


def gallery(result, images):
    """Shows images with the largest and smallest radii, and some abstentions.

    Args:
        result: `CertificationResult`.
        images: float32 array, shape `(examples, height, width, channels)`.

    Returns:
        str, HTML.
    """
    order = np.argsort(-result.radius, kind="stable")
    certified = order[~result.abstained[order]]
    least = certified[::-1][:_SHOWN]
    # Shows no image twice.
    most = certified[: min(_SHOWN, len(certified) - len(least))]
    rows = (
        ("Largest radii", most),
        ("Smallest radii", least),
        ("Abstained", np.flatnonzero(result.abstained)[:_SHOWN]),
    )
    low, high = min(0.0, images.min()), max(1.0, images.max())
    return "".join(
        f'<h4>{heading}</h4><div class="pictures">'
        + "".join(
            _figure(result, i, (images[i] - low) / (high - low)) for i in which
        )
        + "</div>"
        for heading, which in rows
        if len(which)
    )


def _figure(result, i, image):
    said = [f"predicted {result.prediction[i]}"]
    if result.abstained[i]:
        said = ["abstained"]
    kind = ""
    if result.label is not None:
        said.insert(0, f"label {result.label[i]}")
        if not result.abstained[i] and not result.correct[i]:
            said.append("wrong")
            kind = ' class="wrong"'
    radius = at_least(result.radius[i], ".4f")
    alt = f"Example {_number(result, i)}: {', '.join(said)}, radius {radius}"
    return (
        f'<figure{kind}><img src="data:image/png;base64,{_png(image)}" '
        f'alt="{alt}" title="{alt}"><figcaption><b>{radius}</b><br>'
        f"{'<br>'.join(said)}</figcaption></figure>"
    )


def _number(result, i):
    """Returns an example's number in the data, or its row if unknown."""
    return i if result.index is None else result.index[i]


def _png(image):
    """Returns an image with values in [0, 1] as base64-encoded PNG."""
    from matplotlib.image import imsave

    grey_or_rgb = np.broadcast_to(image, (*image.shape[:2], 3))
    buffer = io.BytesIO()
    imsave(buffer, np.round(255 * grey_or_rgb).astype(np.uint8), format="png")
    return base64.b64encode(buffer.getvalue()).decode()
