"""Gradient ascent inside l2 balls."""

from keras import ops

from keras_smoothing.l2_norm import l2_norm


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
