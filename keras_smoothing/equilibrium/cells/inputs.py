"""Shapes of what cells are given, and of the states that go with them."""

from keras import ops

from keras_smoothing.data_format import channel_axis


def check_vectors(shape):
    if len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            "Invalid shape of `x`. Expected (batch, ..., features), with a "
            f"known number of features. Received: x.shape={tuple(shape)}"
        )


def check_images(shape, data_format):
    axis = channel_axis(data_format)
    if len(shape) != 4 or shape[axis] is None:
        raise ValueError(
            "Invalid shape of `x`. Expected 4 axes, with a known number of "
            f"channels at axis {axis}. Received: x.shape={tuple(shape)}"
        )


def zero_state(x, channels, axis, dtype):
    """Zeros of the shape of x, but for the `channels` on `axis`."""
    shape = list(ops.shape(x))
    shape[axis] = channels
    return ops.zeros(shape, dtype)
