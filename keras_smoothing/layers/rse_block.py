import keras

from keras_smoothing.layers.noise_always import GaussianNoiseAlways
from keras_smoothing.utils import channel_axis


@keras.saving.register_keras_serializable(package="keras_smoothing")
class RSEBlock(keras.layers.Layer):
    """Noise, convolution, batch normalisation, activation.

    The building block of a random self-ensemble. The noise is always on.

    Args:
        filters: int, output channels of the convolution.
        kernel_size: int or tuple of 2 ints.
        stddev: float >= 0, standard deviation of the noise. For inputs in
            [0, 1], the paper uses 0.2 in the first block and 0.1 in the others.
        strides: int or tuple of 2 ints.
        padding: "same" or "valid".
        activation: as in `keras.layers.Activation`, or None.
        seed: int or None, the seed of the noise.
        **kwargs: as in `keras.layers.Layer`.

    Input shape:
        4D, `(batch, height, width, channels)`, or as in
        `keras.config.image_data_format()`.

    Output shape:
        4D, as in `keras.layers.Conv2D`.

    Raises:
        ValueError: if `stddev` is negative or not finite, or for arguments that
            `keras.layers.Conv2D` rejects.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        ks.layers.RSEBlock(16, 3, stddev=0.2),
        ks.layers.RSEBlock(32, 3, stddev=0.1, strides=2),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ])
    ```

    Reference:
    - [Liu et al., 2018](https://arxiv.org/abs/1712.00673)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        stddev,
        strides=1,
        padding="same",
        activation="relu",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.stddev = stddev
        self.strides = strides
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.seed = seed
        policy = {"dtype": self.dtype_policy}
        self.noise = GaussianNoiseAlways(stddev, seed=seed, **policy)
        # The normalisation adds the bias.
        self.convolution = keras.layers.Conv2D(
            filters, kernel_size, strides, padding, use_bias=False, **policy
        )
        self.normalization = keras.layers.BatchNormalization(
            axis=channel_axis(keras.config.image_data_format()), **policy
        )
        self.supports_jit = self.noise.supports_jit

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.normalization.build(self.compute_output_shape(input_shape))

    def call(self, inputs, training=None):
        outputs = self.convolution(self.noise(inputs))
        outputs = self.normalization(outputs, training=training)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "stddev": self.stddev,
            "strides": self.strides,
            "padding": self.padding,
            "activation": keras.activations.serialize(self.activation),
            "seed": self.seed,
        }
