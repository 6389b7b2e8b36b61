"""Text of numbers that are stated, never rounded to where it would be false.

A number is what its shortest text says: 0.29, although the nearest float64 is a
little less. So numbers that are short stay as they are, and any text that is
read as a float again is on its side of the number.
"""

import decimal
import math
import numbers


def at_least(value, spec):
    """The largest text of a form that is not above a number.

    Args:
        value: float, int or `decimal.Decimal`: what is "at least" the text.
        spec: str, a format of floats that ends in "f" or "%", or one of
            significant digits such as ".6g".

    Returns:
        str.
    """
    return _text(value, spec, decimal.ROUND_FLOOR)


def at_most(value, spec):
    """The smallest text of a form that is not below a number.

    Args:
        value: as of `at_least`.
        spec: as there.

    Returns:
        str.
    """
    return _text(value, spec, decimal.ROUND_CEILING)


def towards_zero(value, spec):
    """The text next to a number on the side of zero, as of a difference.

    Args:
        value: as of `at_least`.
        spec: as there.

    Returns:
        str.
    """
    return _text(value, spec, decimal.ROUND_DOWN)


def exact(value):
    """The number that the shortest text of a number says, to reckon with.

    Args:
        value: as of `at_least`.

    Returns:
        `decimal.Decimal`; as text it is read as the same float.
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
