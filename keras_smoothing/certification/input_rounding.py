"""How far an input moves when it is rounded to float32. NumPy only."""

import math

import numpy as np


def rounding_distance(x, rounded, norm):
    """The distance from examples to what their draws are made of.

    Draws are made around float32 numbers, while a certificate is about the
    numbers that were passed in. The balls around both differ by this distance.

    Args:
        x: array, shape `(examples, ...)`, of floating type.
        rounded: float32 array of that shape, `x` rounded.
        norm: str, the norm of the noise; None for noise without one, of which
            nothing is certified.

    Returns:
        float64 array, shape `(examples,)`, not below the distance; 0 where
        nothing was rounded.

    Raises:
        ValueError: where something was rounded and the norm is unknown.
    """
    distance = np.zeros(len(x))
    if norm is None or x.dtype == np.float32:
        return distance
    # The difference is exact: it is a number of the wider type.
    moved = np.abs(x - rounded).reshape(len(x), math.prod(x.shape[1:]))
    steps = moved.astype(np.float64)
    steps = np.where(steps < moved, np.nextafter(steps, np.inf), steps)
    for i in np.flatnonzero(steps.any(axis=1)):
        distance[i] = _norm(steps[i], norm)
    return distance


def _norm(steps, norm):
    """Rounded up, and the same on all machines; of numbers >= 0."""
    if norm == "linf":
        return steps.max()
    if norm not in ("l1", "l2"):
        raise ValueError(
            f"Expected `x` in float32 for noise with norm {norm!r}, in which "
            "the distance that rounding moves it is unknown. Received: values "
            "that float32 does not hold"
        )
    # Squares of what is far from 1 underflow.
    _, exponent = math.frexp(steps.max())
    scaled = np.ldexp(steps, -exponent)
    if norm == "l2":
        total = math.sqrt(math.fsum(scaled * scaled))
    else:
        total = math.fsum(scaled)
    # Squares, sum and root are each off by at most 2^-53 of themselves.
    return math.nextafter(math.ldexp(total * (1 + 2**-50), exponent), math.inf)
