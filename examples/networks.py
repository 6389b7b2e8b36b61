"""Networks of the examples, for small images."""

import keras
from keras import layers


def vgg(input_shape, classes=10):
    """Convolutions in pairs, each pair followed by pooling, as in VGG.

    The first convolution has stride 2, so that it trains in minutes.
    """
    inputs = keras.Input(input_shape)
    y = inputs
    for i, filters in enumerate((16, 32, 64)):
        for j in range(2):
            strides = 2 if i == j == 0 else 1
            y = _convolution(y, filters, 3, strides)
            y = layers.ReLU()(y)
        y = layers.MaxPooling2D(padding="same")(y)
    y = layers.Flatten()(y)
    y = layers.Dense(128, activation="relu")(y)
    return keras.Model(inputs, layers.Dense(classes)(y), name="vgg")


def resnet(input_shape, classes=10):
    """Three residual blocks, with convolutions in their shortcuts."""
    inputs = keras.Input(input_shape)
    y = layers.ReLU()(_convolution(inputs, 16, 3, strides=2))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        shortcut = _convolution(y, filters, 1, strides)
        y = layers.ReLU()(_convolution(y, filters, 3, strides))
        y = layers.Add()([_convolution(y, filters, 3), shortcut])
        y = layers.ReLU()(y)
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(inputs, layers.Dense(classes)(y), name="resnet")


def _convolution(y, filters, kernel_size, strides=1):
    y = layers.Conv2D(
        filters, kernel_size, strides, padding="same", use_bias=False
    )(y)
    return layers.BatchNormalization()(y)


def unet(input_shape, classes, filters=(16, 32, 64)):
    """A U-Net: down by pooling, up by transposed convolutions, with shortcuts.

    Returns logits of each pixel.
    """
    inputs = keras.Input(input_shape)
    y, shortcuts = inputs, []
    for i, width in enumerate(filters):
        if i:
            shortcuts.append(y)
            y = layers.MaxPooling2D()(y)
        y = layers.ReLU()(_convolution(y, width, 3))
        y = layers.ReLU()(_convolution(y, width, 3))
    for width, shortcut in zip(filters[-2::-1], shortcuts[::-1], strict=True):
        y = layers.Conv2DTranspose(width, 2, strides=2)(y)
        y = layers.Concatenate()([y, shortcut])
        y = layers.ReLU()(_convolution(y, width, 3))
    return keras.Model(inputs, layers.Conv2D(classes, 1)(y), name="unet")
