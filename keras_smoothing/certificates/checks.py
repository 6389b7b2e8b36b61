"""Argument checks, with error messages in Keras's form."""

import math
import numbers
import operator

import numpy as np

# Modules of Keras 2 model classes.
_OF_KERAS_2 = ("tf_keras.", "tensorflow.python.keras.")


def positive_float(name, value):
    """Returns `value` as a float; raises unless it is finite and > 0."""
    return _float(name, value, lambda number: number > 0, "> 0")


def nonnegative_float(name, value):
    """Returns `value` as a float; raises unless it is finite and >= 0."""
    return _float(name, value, lambda number: number >= 0, ">= 0")


def noise_scale(name, value):
    """Returns `value` as a float; raises unless float32 can hold such noise.

    If noise is too small or too large, float32 loses draws: those near 0
    underflow, those far away overflow. Draws are at least 2^-24 of their scale.
    """
    value = positive_float(name, value)
    if not 2.0**-100 <= value <= 2.0**100:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a number from "
            f"{2.0**-100:.3g} to {2.0**100:.3g}: float32 does not hold the "
            f"draws of smaller or larger noise. Received: {name}={value!r}. "
            "Scale the inputs."
        )
    return value


def sigma_bounds(sigma_min, sigma_max):
    """Returns both as floats; raises unless 0 < sigma_min < sigma_max."""
    low = noise_scale("sigma_min", sigma_min)
    high = noise_scale("sigma_max", sigma_max)
    if low >= high:
        raise ValueError(
            "Expected sigma_min < sigma_max. Received: "
            f"sigma_min={sigma_min}, sigma_max={sigma_max}"
        )
    return low, high


def positive_share(name, value):
    """Returns `value` as a float; raises unless it lies in (0, 1]."""
    value = positive_float(name, value)
    if value > 1:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a number in "
            f"(0, 1]. Received: {name}={value!r}"
        )
    return value


def positive_int(name, value):
    """Returns `value` as an int; raises unless it is an integer >= 1."""
    return _int(name, value, 1, "an integer >= 1")


def num_draws(name, value):
    """Returns `value` as an int; raises unless it is from 1 to 2^31 - 1."""
    value = positive_int(name, value)
    if value >= 2**31:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected at most 2^31 - 1 "
            f"draws, which are counted in 32 bits. Received: {name}={value}"
        )
    return value


def nonnegative_int(name, value):
    """Returns `value` as an int; raises unless it is an integer >= 0."""
    return _int(name, value, 0, "an integer >= 0")


def instance(name, value, kind, example):
    """Raises unless `value` is a `kind`; the error suggests `example`."""
    if not isinstance(value, kind):
        package = ".".join(kind.__module__.split(".")[:2])
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a "
            f"{package}.{kind.__name__}, such as {example}. Received: "
            f"{name}={value!r} of type {type(value)}"
        )


def advice_on_keras_2(model):
    """The end of an error about a model, if it is a Keras 2 model; or "".

    It goes by module names, so that an installed Keras 2 is not imported.
    """
    modules = [kind.__module__ for kind in type(model).__mro__]
    if not any(name.startswith(_OF_KERAS_2) for name in modules):
        return ""
    return (
        ", which is of Keras 2. Save it as .h5, and load that by "
        "keras.saving.load_model(path, compile=False)"
    )


def one_of(name, value, allowed):
    """Raises unless `value` is one of those allowed."""
    if value not in allowed:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected one of "
            f"{tuple(allowed)}. Received: {name}={value!r}"
        )


def boxes(name, value, num_examples):
    """Returns boxes in float64, `(num_examples, g, 4)`; raises for others.

    Rows are x1, y1, x2, y2, with x1 < x2 and y1 < y2; or four times NaN.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or (
        array.ndim != 3 or array.shape[::2] != (num_examples, 4)
    ):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected boxes of shape "
            f"({num_examples}, g, 4). Received: shape {array.shape} of type "
            f"{array.dtype}"
        )
    array = array.astype(np.float64)
    is_box = np.isfinite(array).all(axis=-1) & (
        array[..., :2] < array[..., 2:]
    ).all(axis=-1)
    wrong = ~(is_box | np.isnan(array).all(axis=-1))
    if wrong.any():
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected x1, y1, x2, y2 "
            "with x1 < x2 and y1 < y2, or four NaN where there is no box. "
            f"Received: {array[wrong][0].tolist()}"
        )
    return array


def floating(name, dtype):
    """Raises unless a NumPy dtype is of floating type."""
    if "float" not in dtype.name:
        advice = ""
        if np.issubdtype(dtype, np.integer):
            advice = (
                f". Convert it with {name}.astype('float32'), scaled to what "
                "the model expects"
            )
        raise ValueError(
            f"Expected `{name}` of floating type, in the units of the noise. "
            f"Received: dtype {dtype}{advice}"
        )


def probability(name, value):
    """Returns `value` as a float; raises unless it lies inside (0, 1)."""
    if not isinstance(value, numbers.Real) or not 0 < value < 1:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a number "
            f"strictly between 0 and 1. Received: {name}={value!r}"
        )
    return float(value)


def probabilities(name, value):
    """Returns `value` as a float64 array; raises unless inside (0, 1)."""
    array = np.asarray(value)
    if array.dtype.kind != "f" or not np.all((0 < array) & (array < 1)):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected numbers strictly "
            f"between 0 and 1. Received: {name}={value!r}"
        )
    return array.astype(np.float64)


def seed(value):
    """Returns `value` as an int; raises unless it is an integer >= 0."""
    return _int("seed", value, 0, "an integer >= 0 or None")


def _float(name, value, is_allowed, what):
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not math.isfinite(value)
        or not is_allowed(value)
    ):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a finite number "
            f"{what}. Received: {name}={value!r}"
        )
    return float(value)


def _int(name, value, least, what):
    try:
        integer = operator.index(value)
    except TypeError:
        integer = least - 1
    if isinstance(value, bool) or integer < least:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {what}. Received: "
            f"{name}={value!r}"
        )
    return integer
