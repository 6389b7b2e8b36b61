import keras
from keras import layers

from keras_smoothing.utils import channel_axis
from keras_smoothing.utils import wide_dtype


def dncnn(input_shape, depth=8, filters=32, name="dncnn"):
    """A convolutional denoiser that estimates the noise and subtracts it.

    The paper uses depth 17 and 64 filters. The default has some 57,000 weights
    and is for small images.

    Args:
        input_shape: tuple of ints, the shape of an image.
        depth: int >= 2, the number of convolutions.
        filters: int, of all convolutions but the last.
        name: str, name of the model.

    Returns:
        `keras.Model` from noisy images to images of the same shape.

    Raises:
        ValueError: if `depth` is below 2.

    Example:

    ```python
    import keras_smoothing as ks

    denoiser = ks.applications.dncnn((28, 28, 1))
    ```

    Reference:
    - [Zhang et al., 2017](https://arxiv.org/abs/1608.03981)
    """
    if depth < 2:
        raise ValueError(
            "Invalid value for argument `depth`. Expected at least 2 "
            f"convolutions. Received: depth={depth}"
        )
    axis = channel_axis(keras.config.image_data_format())
    # Pixels keep full precision under half-precision policies.
    dtype = wide_dtype(keras.config.dtype_policy().compute_dtype)
    images = keras.Input(input_shape, dtype=dtype)
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(images)
    for _ in range(depth - 2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(axis=axis)(x))
    noise = layers.Conv2D(images.shape[axis], 3, padding="same", dtype=dtype)(x)
    denoised = layers.Subtract(dtype=dtype)([images, noise])
    return keras.Model(images, denoised, name=name)
