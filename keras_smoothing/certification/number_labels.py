"""Labels that are real numbers, of the shape of an answer."""

import numpy as np


def read(y, examples):
    """Validates the labels of a batch.

    Args:
        y: array, shape `(examples, ...)`; of shape `(examples,)` for answers of
            one number; or None.
        examples: range, the numbers of the examples.

    Returns:
        float64 array, shape `(examples, ...)`; or one of as many None.

    Raises:
        ValueError: unless they are finite numbers.
    """
    if y is None:
        return np.full(len(examples), None)
    if y.dtype.kind not in "fiu" or not np.isfinite(y).all():
        raise ValueError(
            "Expected finite numbers `y`. Received: "
            + (f"dtype {y.dtype}" if y.dtype.kind not in "fiu" else "others")
        )
    return np.float64(y[:, np.newaxis] if y.ndim == 1 else y)


def check(labels, answers):
    """Raises ValueError for labels of another shape than answers."""
    if labels.ndim > 1 and labels.shape[1:] != answers:
        raise ValueError(
            f"Expected labels of the shape of an answer, {answers}. Received: "
            f"{labels.shape[1:]}"
        )
