"""Labels that are classes, one for each example."""

import numpy as np


def read(y, examples):
    """Validates the labels of a batch.

    Args:
        y: array, shape `(examples,)`, `(examples, 1)` or one-hot
            `(examples, classes)`; or None.
        examples: int.

    Returns:
        int64 array, shape `(examples,)`; or one of as many None.

    Raises:
        ValueError: if they are not as described.
    """
    if y is None:
        return np.full(examples, None)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    is_one_hot = (
        y.ndim == 2 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
    )
    if is_one_hot:
        return np.argmax(y, axis=1).astype(np.int64)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.number):
        raise ValueError(
            "Expected integers `y` of shape (examples,), (examples, 1) or "
            f"one-hot (examples, classes). Received: shape {y.shape}, dtype "
            f"{y.dtype}"
        )
    labels = y.astype(np.int64)
    if (labels != y).any() or (labels < 0).any():
        raise ValueError(
            "Expected `y` to hold integers >= 0. Received: "
            f"y={y[(labels != y) | (labels < 0)][:5]}"
        )
    return labels


def check(labels, num_classes):
    """Raises ValueError for labels of a model of fewer classes."""
    if labels[0] is not None and labels.max() >= num_classes:
        raise ValueError(
            f"Expected labels below the model's {num_classes} classes. "
            f"Received: label {labels.max()}"
        )
