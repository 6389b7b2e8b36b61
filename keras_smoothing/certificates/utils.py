"""Warnings, settings and hashes for several modules."""

import dataclasses
import hashlib
import pathlib
import sys
import warnings

_PACKAGE = str(pathlib.Path(__file__).parents[1])


def warn_caller(message, category=UserWarning):
    """Warns at the line outside this package that led here.

    Args:
        message: str.
        category: subclass of `Warning`.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


class Configured:
    """Mixin: config serialization and an argument-style repr.

    The settings of a dataclass are its fields. Any other subclass returns its
    arguments in `get_config`, and keeps each as an attribute of that name.
    """

    def get_config(self):
        if not dataclasses.is_dataclass(self):
            return {}
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        # An argument that is `Configured`, too, is printed by its own repr
        # rather than by its config.
        arguments = ", ".join(
            f"{k}={getattr(self, k, v)}" for k, v in self.get_config().items()
        )
        return f"{type(self).__name__}({arguments})"


def example_digest(x):
    """Hash of one example: 16 hexadecimal digits."""
    return hashlib.sha256(x.tobytes()).hexdigest()[:16]


def weights_digest(arrays, beside=""):
    """Hash of arrays with their shapes and types, in order.

    Args:
        arrays: iterable of arrays.
        beside: str, text that is hashed before them.

    Returns:
        str, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(beside.encode())
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
