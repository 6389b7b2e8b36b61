"""What several modules need of Keras's types and forms."""

import functools

import keras

from keras_smoothing.certificates import checks


def wide_dtype(*dtypes):
    """The widest of some floating types, float32 at least.

    Sums and norms lose too many digits in half precision; float64 is kept. The
    result does not depend on `keras.config.floatx()`.

    Args:
        *dtypes: str or type of the backend.

    Returns:
        str, "float32" or "float64".
    """
    return keras.backend.result_type(*dtypes, "float32")


def checked_data_format(data_format):
    """Keras's own for None; raises unless it is one of the two."""
    if data_format is None:
        return keras.config.image_data_format()
    formats = ("channels_last", "channels_first")
    checks.one_of("data_format", data_format, formats)
    return data_format


def channel_axis(data_format):
    """The axis of the channels in a batch of images."""
    return -1 if data_format == "channels_last" else 1


def image_size(shape, data_format):
    """Height and width of a batch of images."""
    return tuple(shape[1:3] if data_format == "channels_last" else shape[2:4])


class Rebuilt:
    """Pickled as the arguments it was made of: what it compiled cannot be."""

    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        made._arguments = args, kwargs
        return made

    def __reduce__(self):
        args, kwargs = self._arguments
        return functools.partial(type(self), **kwargs), args
