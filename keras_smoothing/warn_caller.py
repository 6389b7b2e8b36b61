import pathlib
import sys
import warnings

_PACKAGE = str(pathlib.Path(__file__).parent)


def warn_caller(message, category=UserWarning):
    """Warns at the line outside of this package that led here.

    Args:
        message: str.
        category: subclass of `Warning`.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
