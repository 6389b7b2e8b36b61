"""Checks of the shapes of inputs, when a cell is built."""


def check_vectors(shape):
    if len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            "Invalid shape of `x`. Expected (batch, ..., features), with a "
            f"known number of features. Received: x.shape={tuple(shape)}"
        )


def check_images(shape, channel_axis):
    if len(shape) != 4 or shape[channel_axis] is None:
        raise ValueError(
            "Invalid shape of `x`. Expected 4 axes, with a known number of "
            f"channels at axis {channel_axis}. Received: "
            f"x.shape={tuple(shape)}"
        )


def spatial_size(shape, channel_axis):
    """Height and width of a batch of images."""
    return tuple(shape[1:3] if channel_axis == -1 else shape[2:4])
