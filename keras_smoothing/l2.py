"""The l2 norm, and projections by it."""

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


def step_in_ball(x, delta, gradient, epsilon, step_size, bounds):
    """One step of projected gradient ascent, for each example by itself.

    Args:
        x: tensor, shape `(batch, ...)`, the centres of the balls.
        delta: tensor of that shape, where the examples are, less x.
        gradient: tensor of that shape, to be followed.
        epsilon: float, the radius of the balls, or a tensor that broadcasts
            with x.
        step_size: float, the length of the step, likewise.
        bounds: (low, high), of all values of x + delta, or None. Where x lies
            outside, delta does not lead further out.

    Returns:
        tensor of that shape, the new delta.
    """
    delta = delta + step_size * (gradient / _norm(gradient))
    delta = delta * ops.minimum(1.0, epsilon / _norm(delta))
    if bounds is None:
        return delta
    low, high = bounds
    return ops.clip(x + delta, ops.minimum(x, low), ops.maximum(x, high)) - x


def _norm(v):
    """l2 norm of each example; tiny instead of 0, to divide by."""
    return ops.maximum(l2_norm(v, keepdims=True), 2.0**-126)
