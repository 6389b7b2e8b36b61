import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium.cells.blocks import ResidualBlock
from keras_smoothing.equilibrium.cells.blocks import check_groups
from keras_smoothing.equilibrium.cells.cell import Cell
from keras_smoothing.equilibrium.cells.cell import check_images
from keras_smoothing.equilibrium.cells.cell import check_vectors
from keras_smoothing.equilibrium.cells.cell import zero_state
from keras_smoothing.utils import channel_axis
from keras_smoothing.utils import checked_data_format


@keras.saving.register_keras_serializable(package="keras_smoothing")
class DenseCell(Cell):
    """The cell z -> activation(W z + U x + b).

    Training does not bound W, so nothing is proved about the fixed point. W is
    initialized to half an orthogonal matrix, for which plain iteration
    converges.

    Args:
        units: int, size of the state.
        activation: as in `keras.layers.Activation`, or None.
        kernel_initializer: initializer of U, as in `keras.layers.Dense`.
        recurrent_initializer: initializer of W; None for half an orthogonal
            matrix.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, ..., units)`.
        x: tensor, shape `(batch, ..., features)`.

    Raises:
        ValueError: if `units` is not an integer >= 1.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(32)
    x = keras.random.normal((4, 8))
    z = cell.init_state(x)
    for _ in range(20):
        z = cell(z, x)
    ```

    Reference:
    - [Bai, Kolter and Koltun, 2019](https://arxiv.org/abs/1909.01377)
    """

    def __init__(
        self,
        units,
        activation="tanh",
        kernel_initializer="glorot_uniform",
        recurrent_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = checks.positive_int("units", units)
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        if recurrent_initializer is None:
            recurrent_initializer = keras.initializers.Orthogonal(gain=0.5)
        self.recurrent_initializer = keras.initializers.get(
            recurrent_initializer
        )

    def build(self, z_shape, x_shape):
        check_vectors(x_shape)
        self.kernel = self.add_weight(
            (x_shape[-1], self.units), self.kernel_initializer, name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            (self.units, self.units),
            self.recurrent_initializer,
            name="recurrent_kernel",
        )
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def init_state(self, x):
        return zero_state(x, self.units, -1, self.compute_dtype)

    def inject(self, x, constants):
        kernel, bias, x = (
            ops.cast(tensor, self.compute_dtype)
            for tensor in (self.kernel, self.bias, x)
        )
        return ops.matmul(x, kernel) + bias

    def iterate(self, injection, constants):
        kernel = ops.cast(self.recurrent_kernel, self.compute_dtype)
        return lambda z: self.activation(ops.matmul(z, kernel) + injection)

    def compute_output_shape(self, z_shape, x_shape):
        return z_shape

    def get_config(self):
        serialize = keras.initializers.serialize
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ConvCell(Cell):
    """A residual block, the usual cell for images.

    The cell is z -> N(relu(z + N(U x + C(relu(N(C(z))))))), where C stands for
    convolutions and N for group normalisations. U is a convolution that maps x
    to `filters` channels. The filters of C are weight-normalised once per call.
    Nothing is proved about the fixed point.

    Args:
        filters: int, channels of the state.
        kernel_size: int, of all convolutions.
        inner_filters: int, channels between the two convolutions; None for
            `filters`.
        num_groups: int, groups of each normalisation. It must divide both
            numbers of channels.
        data_format: "channels_last" or "channels_first"; None for
            `keras.config.image_data_format()`.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, height, width, filters)`.
        x: tensor, shape `(batch, height, width, channels)`.

    Raises:
        ValueError: if `num_groups` does not divide the numbers of channels, or
            an argument is not as described.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.ConvCell(16)
    x = keras.random.normal((4, 8, 8, 3))
    z = cell.init_state(x)
    for _ in range(20):
        z = cell(z, x)
    ```

    Reference:
    - [Bai, Koltun and Kolter, 2020](https://arxiv.org/abs/2006.08656)
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        inner_filters=None,
        num_groups=8,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.filters = checks.positive_int("filters", filters)
        self.kernel_size = checks.positive_int("kernel_size", kernel_size)
        self.inner_filters = inner_filters
        if inner_filters is None:
            inner_filters = self.filters
        inner_filters = checks.positive_int("inner_filters", inner_filters)
        self.num_groups = checks.positive_int("num_groups", num_groups)
        check_groups(self.num_groups, self.filters)
        check_groups(self.num_groups, inner_filters)
        self.data_format = checked_data_format(data_format)
        self.injection = keras.layers.Conv2D(
            self.filters,
            self.kernel_size,
            padding="same",
            data_format=self.data_format,
            kernel_initializer="lecun_normal",
            **policy,
        )
        self.block = ResidualBlock(
            self.filters,
            inner_filters,
            self.kernel_size,
            self.num_groups,
            self.data_format,
            **policy,
        )

    def build(self, z_shape, x_shape):
        check_images(x_shape, self.data_format)
        self.injection.build(x_shape)
        self.block.build(z_shape)

    def init_state(self, x):
        axis = channel_axis(self.data_format)
        return zero_state(x, self.filters, axis, self.compute_dtype)

    def inject(self, x, constants):
        return self.injection(x)

    def iterate(self, injection, constants):
        return self.block.bind(injection)

    def compute_output_shape(self, z_shape, x_shape):
        return z_shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "inner_filters": self.inner_filters,
            "num_groups": self.num_groups,
            "data_format": self.data_format,
        }
