"""Balls and their distances, decided as in real arithmetic.

A ball with weights w is `{p: ||(p - center) * w|| <= radius}`, where the
largest weight is 1; without weights it is an ordinary ball. It is closed, and
all numbers that define it are binary fractions, so every question about it has
one exact answer.

Points are float32 with norms below `LARGEST`. So float64 arithmetic here
neither overflows nor underflows: differences are 0 or at least 2^-149, and
weights from float32 scales are at least 2^-277.
"""

from fractions import Fraction

import numpy as np

# Upper limit of norms and radii. The product of two fits in float32.
LARGEST = 2.0**60


def weights(scale):
    """Returns the weights of a ball that was certified with these scales.

    Args:
        scale: float, or float32 array, shape `(dimensions,)`.

    Returns:
        float64 array, shape `(dimensions,)`, in (0, 1]; None for a single
        scale.
    """
    if np.ndim(scale) == 0:
        return None
    scale = scale.astype(np.float64)
    # Rounded up: larger weights give a smaller ball, inside the certified one.
    return np.minimum(np.nextafter(scale.min() / scale, np.inf), 1.0)


def reach(radius, w):
    """Bounds, as a float, how far a ball extends from its center in l2."""
    # The factor covers rounding. The l1 norm is never below the l2 norm.
    return radius if w is None else float(radius / w.min() * (1 + 2.0**-50))


def distances(x, points, norm, w=None):
    """Bounds the distances from one point to others.

    Args:
        x: float32 array, shape `(dimensions,)`.
        points: float32 array, shape `(points, dimensions)`.
        norm: `"l1"` or `"l2"`.
        w: float64 array, shape `(dimensions,)` or `(points, dimensions)`, in
            (0, 1]: weights; or None.

    Returns:
        lower, upper: float64 arrays, shape `(points,)`, that enclose the
        distances in real arithmetic. Both are 0 for equal points.
    """
    difference = np.subtract(points, x, dtype=np.float64)
    if w is not None:
        difference *= w
    if norm == "l1":
        distance = np.abs(difference).sum(axis=1)
    else:
        squares = np.einsum("ij,ij->i", difference, difference)
        distance = np.sqrt(squares)
    # With u = 2^-53, a term of the sum has a relative error of at most 5u, and
    # a sum of d terms of one sign, in any order, adds (d - 1)u. The root
    # halves that and adds u, and so does each of the bounds below.
    margin = (points.shape[1] + 8) * 2.0**-53 * distance
    return distance - margin, distance + margin


def widened(lower, upper, rounding):
    """Bounds the distances of all points that may be meant.

    Args:
        lower: float64 array, shape `(...)`.
        upper: float64 array of the same shape.
        rounding: float, how far they may be from the measured point.

    Returns:
        lower, upper: unchanged for a rounding of 0.
    """
    if not rounding:
        return lower, upper
    return (
        _strictly_below(lower - rounding),
        np.nextafter(upper + rounding, np.inf),
    )


def contains(center, radius, w, x, norm):
    """Decides in exact arithmetic whether a ball contains a point.

    Args:
        center: float32 array, shape `(dimensions,)`.
        radius: float.
        w: float64 array, shape `(dimensions,)`: weights; or None.
        x: float32 array, shape `(dimensions,)`.
        norm: `"l1"` or `"l2"`.

    Returns:
        bool.
    """
    factors = np.ones(len(x)) if w is None else w
    steps = [
        (Fraction(a) - Fraction(b)) * Fraction(factor)
        for a, b, factor in zip(
            center.tolist(), x.tolist(), factors.tolist(), strict=True
        )
    ]
    if norm == "l1":
        return sum(map(abs, steps)) <= Fraction(radius)
    return sum(step * step for step in steps) <= Fraction(radius) ** 2


def remaining(radii, upper):
    """Bounds from below how far a point inside balls is from leaving them.

    Args:
        radii: float64 array, shape `(balls,)`.
        upper: float64 array, shape `(balls,)`: upper bounds on the distances
            from the centers.

    Returns:
        float64 array, shape `(balls,)`.
    """
    rest = np.where(upper > 0, _strictly_below(radii - upper), radii)
    return np.maximum(rest, 0.0)


def room(x, own, points, radii, theirs, norm):
    """Returns, for each other ball, a radius at which a new ball misses it.

    Each radius is 0 or so small that the closed balls have no common point. At
    radius 0 the new ball is its center alone, so the center must lie in none of
    the others.

    Args:
        x: float32 array, shape `(dimensions,)`: the new center.
        own: float64 array, shape `(dimensions,)`: its weights; or None.
        points: float32 array, shape `(balls, dimensions)`: the other centers.
        radii: float64 array, shape `(balls,)`.
        theirs: float64 array, shape `(balls, dimensions)`: the others'
            weights; or None.
        norm: `"l1"` or `"l2"`.

    Returns:
        float64 array, shape `(balls,)`.
    """
    if own is None and theirs is None:
        lower, _ = distances(x, points, norm)
        return np.maximum(_strictly_below(lower - radii), 0.0)
    own = np.ones(len(x)) if own is None else own
    theirs = np.ones(points.shape) if theirs is None else theirs
    # Uses the triangle inequality in either ball's norm: the ball of weights w
    # and radius r lies in the ball of weights v and radius r * max(v / w),
    # since v <= max(v / w) * w.
    roundings = 1 + 2.0**-50
    stretch = (theirs / own).max(axis=1) * roundings
    lower, _ = distances(x, points, norm, theirs)
    in_theirs = _strictly_below(lower - radii) / stretch
    stretch = (own / theirs).max(axis=1) * roundings
    lower, _ = distances(x, points, norm, own)
    in_own = _strictly_below(lower - radii * stretch)
    return np.maximum(np.maximum(in_theirs, in_own), 0.0)


def _strictly_below(rounded):
    """Returns a lower bound on the real number that was rounded to this one."""
    return np.nextafter(rounded, -np.inf)
