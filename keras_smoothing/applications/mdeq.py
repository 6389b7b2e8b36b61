import keras
from keras import layers

from keras_smoothing.equilibrium.cells.multiscale_cell import MultiscaleCell
from keras_smoothing.layers.deep_equilibrium import DeepEquilibrium
from keras_smoothing.utils import channel_axis
from keras_smoothing.utils import wide_dtype


def mdeq_small(
    input_shape,
    num_classes,
    num_halvings=None,
    dropout=0.0,
    solver="anderson",
    gradient="implicit",
    name="mdeq_small",
):
    """The small multiscale deep equilibrium model of the paper, for CIFAR-10.

    It has three branches with 8, 16 and 32 channels, and some 170,000 weights.

    Args:
        input_shape: tuple of ints, the shape of an image.
        num_classes: int.
        num_halvings: int, how often the resolution is halved before the
            equilibrium. None for 2 if images are at least 128 pixels high, as
            in the paper for ImageNet, and otherwise 0.
        dropout: float in [0, 1), as in `MultiscaleCell`.
        solver: as in `keras_smoothing.layers.DeepEquilibrium`.
        gradient: as in `keras_smoothing.layers.DeepEquilibrium`.
        name: str, name of the model.

    Returns:
        `keras.Model` from images to logits, shape `(batch, num_classes)`.

    Example:

    ```python
    import keras_smoothing as ks

    model = ks.applications.mdeq_small((32, 32, 3), num_classes=10)
    ```

    Reference:
    - [Bai, Koltun and Kolter, 2020](https://arxiv.org/abs/2006.08656)
    """
    return _mdeq(
        input_shape,
        num_classes,
        num_halvings,
        MultiscaleCell([8, 16, 32], dropout=dropout),
        solver,
        gradient,
        head_filters=[4, 8, 16],
        final_filters=128,
        name=name,
    )


def mdeq_large(
    input_shape,
    num_classes,
    num_halvings=None,
    dropout=0.0,
    solver="anderson",
    gradient="implicit",
    name="mdeq_large",
):
    """The large multiscale deep equilibrium model of the paper, for CIFAR-10.

    It has four branches with 32, 64, 128 and 256 channels, and some ten million
    weights.

    Args:
        input_shape: as in `mdeq_small`.
        num_classes: as in `mdeq_small`.
        num_halvings: as in `mdeq_small`.
        dropout: as in `mdeq_small`.
        solver: as in `mdeq_small`.
        gradient: as in `mdeq_small`.
        name: str, name of the model.

    Returns:
        `keras.Model` from images to logits, shape `(batch, num_classes)`.

    Example:

    ```python
    import keras_smoothing as ks

    model = ks.applications.mdeq_large((32, 32, 3), num_classes=10)
    ```

    Reference:
    - [Bai, Koltun and Kolter, 2020](https://arxiv.org/abs/2006.08656)
    """
    return _mdeq(
        input_shape,
        num_classes,
        num_halvings,
        MultiscaleCell([32, 64, 128, 256], dropout=dropout),
        solver,
        gradient,
        head_filters=[14, 28, 56, 112],
        final_filters=1680,
        name=name,
    )


def _mdeq(
    input_shape,
    num_classes,
    num_halvings,
    cell,
    solver,
    gradient,
    head_filters,
    final_filters,
    name,
):
    height = input_shape[0 if cell.data_format == "channels_last" else 1]
    if num_halvings is None:
        num_halvings = 2 if height >= 128 else 0
    images = keras.Input(input_shape)
    x = images
    # The third convolution of the paper's stem is the cell's injection.
    for k in range(max(2, num_halvings)):
        x = _convolve(x, cell.filters[0], 3, 2 if k < num_halvings else 1)
        x = layers.ReLU()(x)
    branches = DeepEquilibrium(cell, solver, gradient)(x)
    return keras.Model(
        images,
        _head(branches, head_filters, final_filters, num_classes),
        name=name,
    )


def _head(branches, head_filters, final_filters, num_classes):
    """Widens all branches, merges them from fine to coarse, classifies."""
    merged = None
    for branch, filters in zip(branches, head_filters, strict=True):
        x = _bottleneck(branch, filters)
        if merged is not None:
            merged = _convolve(merged, 4 * filters, 3, 2, use_bias=True)
            x = layers.Add()([x, layers.ReLU()(merged)])
        merged = x
    x = _convolve(merged, final_filters, 1, use_bias=True)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    # Logits keep full precision under half-precision policies.
    return layers.Dense(num_classes, dtype=wide_dtype(x.dtype))(x)


def _bottleneck(x, filters):
    y = layers.ReLU()(_convolve(x, filters, 1, affine=False))
    y = layers.ReLU()(_convolve(y, filters, 3, affine=False))
    y = _convolve(y, 4 * filters, 1, affine=False)
    return layers.ReLU()(layers.Add()([y, _convolve(x, 4 * filters, 1)]))


def _convolve(x, filters, kernel_size, strides=1, use_bias=False, affine=True):
    """A convolution, then batch normalisation."""
    x = layers.Conv2D(
        filters, kernel_size, strides, padding="same", use_bias=use_bias
    )(x)
    axis = channel_axis(keras.config.image_data_format())
    return layers.BatchNormalization(axis=axis, center=affine, scale=affine)(x)
