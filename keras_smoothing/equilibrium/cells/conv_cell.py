import keras

from keras_smoothing import checks
from keras_smoothing.data_format import channel_axis
from keras_smoothing.data_format import checked_data_format
from keras_smoothing.equilibrium.cells.cell import Cell
from keras_smoothing.equilibrium.cells.inputs import check_images
from keras_smoothing.equilibrium.cells.inputs import zero_state
from keras_smoothing.equilibrium.cells.residual_block import ResidualBlock
from keras_smoothing.equilibrium.cells.residual_block import check_groups


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ConvCell(Cell):
    """A residual block, the usual cell for images.

    With C for convolutions and N for group normalisations it is
    z -> N(relu(z + N(U x + C(relu(N(C(z))))))), where U is a convolution that
    brings x to `filters` channels. The filters of C are weight-normalised, once
    per call. Nothing is proved of its fixed point.

    Args:
        filters: int, channels of the state.
        kernel_size: int, of all convolutions.
        inner_filters: int, channels between the two convolutions; None for
            `filters`.
        num_groups: int, groups of each normalisation. It divides both.
        data_format: "channels_last" or "channels_first"; None for
            `keras.config.image_data_format()`.
        **kwargs: of `keras.layers.Layer`.

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
