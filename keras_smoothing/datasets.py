"""Images and labels to train and certify on."""

import re

import numpy as np


def load(name, split):
    """Loads a labelled image dataset.

    Args:
        name: str. `"digits"`: the 1,797 handwritten digits that scikit-learn
            ships, 8 x 8, of which the last 360 are the test set. Everything
            else is a name for `tensorflow_datasets`, which downloads what it
            does not have.
        split: str, `"train"`, `"test"`, or a slice as in `"test[:500]"`.

    Returns:
        (x, y): float32 `(examples, height, width, channels)` in [0, 1], and
        int64 `(examples,)`.

    Raises:
        ImportError: if the extra `datasets` is missing.
        ValueError: for a split that does not exist, or a dataset without
            images and labels.

    Example:

    ```python
    import keras_smoothing as ks

    x, y = ks.datasets.load("digits", "test[:10]")
    ```
    """
    try:
        x, y = _digits(split) if name == "digits" else _tfds(name, split)
    except ImportError as error:
        raise ImportError(
            "Datasets need an extra: pip install keras_smoothing[datasets] "
            f"({error})"
        ) from error
    return x, y.astype("int64")


def _digits(split):
    from sklearn.datasets import load_digits

    parts = re.fullmatch(r"(train|test)(?:\[(\d*):(\d*)\])?", split)
    if not parts:
        raise ValueError(
            "Expected a split such as 'train', 'test' or 'test[:100]'. "
            f"Received: split={split!r}"
        )
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    side = slice(-360, None) if parts[1] == "test" else slice(None, -360)
    some = slice(*(int(edge) if edge else None for edge in parts.groups()[1:]))
    return images[side][some], labels[side][some]


def _tfds(name, split):
    import tensorflow_datasets as tfds

    loaded = tfds.load(name, split=split, batch_size=-1, as_supervised=True)
    x, y = tfds.as_numpy(loaded)
    if not np.issubdtype(x.dtype, np.uint8) or x.ndim != 4:
        raise ValueError(
            "Expected a dataset of images of one size, as uint8. Received: "
            f"{name} with dtype {x.dtype} and shape {x.shape}"
        )
    return x.astype("float32") / 255, y
