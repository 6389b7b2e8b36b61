"""Text of stated numbers, rounded only in the direction that keeps it true.

A number counts as the value of its shortest text: 0.29, although the nearest
float64 is a little less. So short numbers stay as they are, and any text that
is read as a float again is on the right side of the number.
"""

import decimal
import math
import numbers


def at_least(value, spec):
    """The largest text in a format that is not above a number.

    Args:
        value: float, int or `decimal.Decimal`: the number, which is "at least"
            the text.
        spec: str, a format of floats that ends in "f" or "%", or one of
            significant digits such as ".6g".

    Returns:
        str.
    """
    return _text(value, spec, decimal.ROUND_FLOOR)


def at_most(value, spec):
    """The smallest text in a format that is not below a number.

    Args:
        value: as in `at_least`.
        spec: as in `at_least`.

    Returns:
        str.
    """
    return _text(value, spec, decimal.ROUND_CEILING)


def towards_zero(value, spec):
    """The closest text of a number towards zero, such as for a difference.

    Args:
        value: as in `at_least`.
        spec: as in `at_least`.

    Returns:
        str.
    """
    return _text(value, spec, decimal.ROUND_DOWN)


def exact(value):
    """The value of a number's shortest text, for exact arithmetic.

    Args:
        value: as in `at_least`.

    Returns:
        `decimal.Decimal`, whose text is read as the same float.
    """
    if isinstance(value, decimal.Decimal):
        return value
    if isinstance(value, numbers.Integral):
        return decimal.Decimal(int(value))
    return decimal.Decimal(repr(float(value)))


def _text(value, spec, rounding):
    if not math.isfinite(value):
        return str(float(value))
    with decimal.localcontext(rounding=rounding) as context:
        if not spec.endswith("g"):
            return format(exact(value), spec)
        context.prec = int(spec[1:-1])
        number = (+exact(value)).normalize()
    exponent = number.adjusted()
    if -5 < exponent < context.prec:
        return f"{number:f}"
    return f"{number.scaleb(-exponent):f}e{exponent:+03d}"
