"""Checks and converts the arguments of a memory's methods."""

import math

import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.labels import ClassLabels
from keras_smoothing.groups.group import is_group
from keras_smoothing.memory.geometry import LARGEST
from keras_smoothing.memory.kept import Promise


def to_points(x, shape):
    """Flattens examples of the given shape to rows of coordinates."""
    if (
        not isinstance(x, np.ndarray)
        or x.dtype != np.float32
        or x.shape[1:] != shape
    ):
        raise ValueError(
            "Expected `x` to be a float32 array of shape "
            f"{('examples', *shape)}. Received: "
            f"{getattr(x, 'dtype', type(x))} of shape {np.shape(x)}"
        )
    points = x.reshape(len(x), math.prod(shape))
    norms = np.linalg.norm(points.astype(np.float64), axis=1)
    if not np.all(norms < LARGEST):
        raise ValueError(
            f"Expected `x` of finite points with norms below {LARGEST:g}. "
            f"Received: norms {norms}"
        )
    return points


def to_symmetries(symmetries, dimensions):
    """Returns rearrangements of coordinates as an int64 array, or None."""
    if symmetries is None:
        return None
    array = np.asarray(symmetries)
    if (
        array.dtype.kind not in "iu"
        or array.shape[1:] != (dimensions,)
        or not is_group(array)
    ):
        raise ValueError(
            "Invalid value for argument `symmetries`. Expected a group of "
            f"rearrangements of {dimensions} coordinates, each once, the "
            "identity among them, with all their products, as an int array of "
            f"shape (order, {dimensions}). Received: {array.dtype} of shape "
            f"{array.shape}"
        )
    return array.astype(np.int64)


def to_promises(x, prediction, radius, scale, alpha, stddev, noise):
    """Returns one `Promise` for each example."""
    count = len(x)
    classes = ClassLabels(minus_one="an abstention", name="prediction")
    prediction = classes.read(prediction, range(count))
    radius = np.asarray(radius, np.float64)
    if radius.shape != (count,) or not np.all(
        (radius >= 0) & (radius < LARGEST)
    ):
        raise ValueError(
            f"Expected `radius` of shape ({count},), with numbers >= 0 and "
            f"below {LARGEST:g}. Received: radius={radius}"
        )
    scale = np.asarray(scale)
    if scale.ndim > 1:
        if scale.shape != x.shape or scale.dtype != np.float32:
            raise ValueError(
                "Expected `scale` to be numbers, one for each example, or a "
                f"float32 array of shape {x.shape}. Received: {scale.dtype} of "
                f"shape {scale.shape}"
            )
        scales = list(scale.reshape(count, -1).copy())
    else:
        scales = _one_each("scale", scale.astype(np.float64), count)
    if not np.all((scale > 0) & np.isfinite(scale)):
        raise ValueError(
            "Invalid value for argument `scale`. Expected finite numbers > 0. "
            f"Received: scale={scale}"
        )
    alpha = _one_each("alpha", checks.probabilities("alpha", alpha), count)
    stddev = checks.positive_float("stddev", stddev)
    if not isinstance(noise, str):
        raise ValueError(
            "Invalid value for argument `noise`. Expected the noise in words, "
            f"a str. Received: noise={noise!r}"
        )
    return [
        Promise(*values, stddev, noise)
        for values in zip(
            prediction.tolist(), radius.tolist(), scales, alpha, strict=True
        )
    ]


def to_roundings(rounding, count):
    """Lists how far each example may be from the point that is meant."""
    rounding = np.asarray(rounding, np.float64)
    if not np.all((rounding >= 0) & (rounding < LARGEST)):
        raise ValueError(
            "Invalid value for argument `rounding`. Expected numbers >= 0 and "
            f"below {LARGEST:g}. Received: rounding={rounding}"
        )
    return _one_each("rounding", rounding, count)


def _one_each(name, numbers, count):
    """Returns a list with one number for each example."""
    if numbers.shape not in ((), (count,)):
        raise ValueError(
            f"Expected `{name}` to be a number, or one for each of {count} "
            f"examples. Received: {name} of shape {numbers.shape}"
        )
    return np.broadcast_to(numbers, (count,)).tolist()
