import pathlib

import numpy as np

from keras_smoothing import evaluation
from keras_smoothing.evaluation.certified_accuracy import check_one_radius
from keras_smoothing.evaluation.tables import one_distance
from keras_smoothing.report.page import page
from keras_smoothing.report.pictures import find_images


def write_html(path, results, radii=None, *, images=None, settings=None):
    """Writes one page about several runs: curves, tables and pictures.

    The file is self-contained: it needs no network and no scripts. It follows
    the colour scheme of the reader's system, light or dark, and is printable.
    No number in it is better than the certificates: accuracies and radii are
    rounded down; abstentions, draws and seconds are rounded up.

    Args:
        path: path of the page.
        results: dict from name to `CertificationResult`, all with labels or
            all without, and of one distance.
        radii: float array, shape `(r,)`, the radii of the table; or None for
            round steps up to the largest radius.
        images: float array, shape `(examples, height, width, channels)`, which
            includes the examples of all runs, in any order; or None for a page
            without pictures.
        settings: dict from names of results to dicts with further information
            about a run, such as the settings beside its log; or None.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if results are not comparable or are empty, or if images
            of the runs are missing or malformed.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    result = ks.CertificationResult(
        prediction=np.array([3, ks.ABSTAIN]),
        radius=np.array([0.4, 0.0]),
        time=np.array([1.2, 1.2]),
        label=np.array([3, 5]),
    )
    ks.report.write_html("report.html", {"two images": result})
    ```
    """
    if not results or not all(len(result) for result in results.values()):
        raise ValueError(
            "Expected results of at least one example each. Received: "
            f"results={results}"
        )
    for result in results.values():
        check_one_radius(getattr(result, "radius", None))
    distance = one_distance(results.values())
    without = [name for name in results if results[name].label is None]
    if 0 < len(without) < len(results):
        raise ValueError(
            "Expected results all with labels or all without, since the "
            "shares of one kind are no accuracies. Received: "
            f"{' and '.join(without)} without"
        )
    if radii is None:
        largest = max(result.radius.max() for result in results.values())
        radii = evaluation.default_radii(largest)
    found = {}
    if images is not None:
        found = {
            name: find_images(name, result, images)
            for name, result in results.items()
        }
    html = page(results, np.asarray(radii), distance, found, settings or {})
    pathlib.Path(path).write_text(html, encoding="utf-8")
