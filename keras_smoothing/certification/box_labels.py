"""Labels that are the true boxes of an image."""

import numpy as np

from keras_smoothing import checks


def read(y, examples):
    """Validates the labels of a batch.

    Args:
        y: array, shape `(examples, true boxes, 4)`: x1, y1, x2, y2, or NaN
            where there is no box; or None.
        examples: range, the numbers of the examples.

    Returns:
        float64 array of that shape; or one of `examples` None.

    Raises:
        ValueError: if they are not as described.
    """
    if y is None:
        return np.full(len(examples), None)
    return checks.boxes("y", y, len(examples))


def check(labels, answers):
    """Any number of boxes can be true, whatever the slots of an answer."""
