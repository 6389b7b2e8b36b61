"""Numbers as logs write them.

Python's `int` and `float` read more than that: `1_0`, `nan`, `inf`, and digits
of other scripts.
"""

import math
import re

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# The largest up to which a float holds every integer.
_LARGEST = 2**53


def integer(text):
    """The int of decimal digits."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"an integer expected, {text!r} received")
    return whole(text)


def number(text):
    """The float of a decimal number."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"a finite number expected, {text!r} received")
    return value


def nonnegative(text):
    """The float of a decimal number that is not below 0."""
    value = number(text)
    if value < 0:
        raise ValueError(f"a number >= 0 expected, {text!r} received")
    return value


def whole(text):
    """The int of a number without a fraction, such as `3` or `3.0`."""
    value = number(text)
    if value != int(value) or abs(value) > _LARGEST:
        raise ValueError(f"a whole number expected, {text!r} received")
    return int(value)
