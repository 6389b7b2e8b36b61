import keras
from keras import ops

from keras_smoothing.data_format import channel_axis
from keras_smoothing.wide_dtype import wide_dtype

# Small, so that at the start what x brings in outweighs the state.
INITIAL_GAIN = 0.1


class WeightNormalizedConv2D(keras.layers.Layer):
    """A convolution that learns direction and norm of each filter apart.

    Its kernel is computed in `bind`, once for all steps of a solver.

    Reference:
    - [Salimans and Kingma, 2016](https://arxiv.org/abs/1602.07868)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        data_format,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.data_format = data_format
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape):
        channels = input_shape[channel_axis(self.data_format)]
        # Norms have more digits than half precision holds.
        dtype = wide_dtype(self.variable_dtype)
        self.kernel = self.add_weight(
            (self.kernel_size, self.kernel_size, channels, self.filters),
            self.kernel_initializer,
            dtype=dtype,
            autocast=False,
            name="kernel",
        )
        self.gain = self.add_weight(
            (self.filters,),
            keras.initializers.Constant(INITIAL_GAIN),
            dtype=dtype,
            autocast=False,
            name="gain",
        )

    def bind(self):
        """The convolution as a function."""
        kernel = self.normalized_kernel()
        return lambda z: ops.conv(
            z, kernel, padding="same", data_format=self.data_format
        )

    def normalized_kernel(self):
        squares = ops.sum(ops.square(self.kernel), axis=(0, 1, 2))
        kernel = self.kernel * (self.gain * ops.rsqrt(squares + 1e-12))
        return ops.cast(kernel, self.compute_dtype)
