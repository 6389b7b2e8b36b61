"""Norms of which no square under- or overflows."""

import keras
import numpy as np
from keras import ops


def l2_norm(tensor, keepdims=False):
    """The l2 norm of each example, over all other axes.

    Args:
        tensor: float32 or float64 tensor, shape `(batch, ...)`.
        keepdims: bool, whether the other axes stay, of size 1.

    Returns:
        tensor, shape `(batch,)` or `(batch, 1, ...)`: 0 for zeros alone, which
        subnormal numbers are on a CPU; not finite where an example is not.
    """
    axes = tuple(range(1, len(tensor.shape)))
    power = power_of_two(tensor, axes)
    squares = ops.sum(ops.square(power * tensor), axis=axes, keepdims=True)
    norm = ops.sqrt(squares) / power
    return norm if keepdims else ops.squeeze(norm, axes)


def power_of_two(tensor, axes):
    """A factor for numbers that are then squared and summed.

    Args:
        tensor: float32 or float64 tensor.
        axes: int or tuple of ints, those that are summed over.

    Returns:
        tensor, with axes of size 1: 1 unless the largest number is extreme.
    """
    # Of float32: where the largest number lies between 2^-48 and 2^48 the
    # factor is 1 and changes no bit. Elsewhere 2^96 or 2^-96 moves it there,
    # exactly. Then up to 2^32 squares do not overflow, and one that is lost,
    # below 2^-126, is less than 2^-30 of the largest: rounding is 2^-24. In
    # float64 the range is eight times as wide, and so is all of this.
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    edge = 3 * np.finfo(dtype).maxexp // 8
    largest = ops.stop_gradient(ops.max(ops.abs(tensor), axes, keepdims=True))
    one = ops.ones_like(largest)
    power = ops.where(largest < 2.0**-edge, 2.0 ** (2 * edge) * one, one)
    return ops.where(largest >= 2.0**edge, 2.0 ** (-2 * edge) * one, power)
