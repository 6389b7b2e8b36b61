"""Where the channels of images are."""

import keras

from keras_smoothing import checks


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
