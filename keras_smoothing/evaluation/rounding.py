import decimal

import numpy as np

_UP = decimal.Context(prec=6, rounding=decimal.ROUND_CEILING)


def round_down(value, digits):
    """The largest decimal fraction of so many digits that is not above.

    Args:
        value: float or float array, shape `(...)`.
        digits: int, after the point.

    Returns:
        float64, shape `(...)`.
    """
    scale = 10.0**digits
    units = np.round(np.multiply(value, scale))
    # 0.29 * 100 is below 29, but 29 / 100 is the same float as 0.29.
    return np.where(units / scale > value, units - 1, units) / scale


def text_rounded_up(value):
    """A number of six digits that is not below: str."""
    return f"{float(_UP.create_decimal(repr(float(value)))):g}"
