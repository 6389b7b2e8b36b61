"""Rows of different lengths, in TensorFlow."""

import math

import numpy as np
import tensorflow as tf


def is_ragged(x):
    """Whether something is a RaggedTensor."""
    return isinstance(x, tf.RaggedTensor)


def padded(x, value, steps=None):
    """A RaggedTensor as an array, short rows with a value at their end.

    Args:
        x: RaggedTensor, shape `(rows, None, ...)`.
        value: number, or None where rows are to be of one length.
        steps: int, the least length of the result; or None.

    Returns:
        array, shape `(rows, steps, ...)`.

    Raises:
        ValueError: for rows that are longer than others without a `value`, or
            other axes than the second of different lengths.
    """
    lengths = x.row_lengths().numpy()
    if value is None and len(set(lengths)) > 1:
        raise ValueError(
            "Expected rows of one length, or a base model that begins with "
            "keras.layers.Masking, which finds where a row ends. Received: a "
            f"RaggedTensor with rows of {lengths.min()} to {lengths.max()} "
            "steps"
        )
    dense = x.to_tensor(value).numpy()
    size = lengths.sum() * math.prod(dense.shape[2:])
    if int(tf.size(x.flat_values)) != size:
        raise ValueError(
            "Expected a RaggedTensor whose rows differ in the number of steps "
            f"alone. Received: shape {x.shape}, with steps of several sizes"
        )
    if value is None:
        return dense
    more = max(0, (steps or 0) - dense.shape[1])
    widths = [(0, 0), (0, more), *[(0, 0)] * (dense.ndim - 2)]
    return np.pad(dense, widths, constant_values=value)
