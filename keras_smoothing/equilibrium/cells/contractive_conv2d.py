import keras
import numpy as np
from keras import ops

from keras_smoothing import checks
from keras_smoothing.data_format import channel_axis
from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.cells.contractive_cell import ContractiveCell
from keras_smoothing.equilibrium.cells.inputs import check_images
from keras_smoothing.equilibrium.cells.inputs import zero_state
from keras_smoothing.equilibrium.cells.proved_cell import rounding_share
from keras_smoothing.equilibrium.cells.proved_cell import to_numpy


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ContractiveConv2D(ContractiveCell):
    """The cell z -> activation(W z + U x + b) of images, a contraction in z.

    W and U are convolutions that keep height and width, padding with zeros. W
    is divided by an upper bound of its l2 norm wherever that exceeds
    `contraction`, once per call. The bound holds for images of all sizes.

    Args:
        filters: int, channels of the state.
        kernel_size: int or tuple of 2 ints, of both convolutions.
        contraction: float in (0, 1), the largest Lipschitz constant in z.
        activation: name or function of `keras.activations`: increasing with
            slopes up to 1, such as "tanh" or "relu". None for none.
        data_format: "channels_last" or "channels_first"; None for
            `keras.config.image_data_format()`.
        kernel_initializer: initializer of U, as in `keras.layers.Conv2D`.
        recurrent_initializer: initializer of W.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, height, width, filters)`.
        x: tensor, shape `(batch, height, width, channels)`.

    Raises:
        ValueError: if `contraction` is not inside (0, 1), or `activation` is
            none of those.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.ContractiveConv2D(16, contraction=0.8)
    x = keras.random.normal((4, 8, 8, 3))
    z = cell.init_state(x)
    for _ in range(20):
        z = cell(z, x)
    cell.lipschitz_bound()  # At most 0.8.
    ```

    Reference:
    - [Sedghi, Gupta and Long, 2019](https://arxiv.org/abs/1805.10408)
    - [Delattre et al., 2023](https://arxiv.org/abs/2305.16173)
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        contraction=0.9,
        activation="tanh",
        data_format=None,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(
            contraction,
            activation,
            kernel_initializer,
            recurrent_initializer,
            **kwargs,
        )
        self.filters = checks.positive_int("filters", filters)
        self.injection = keras.layers.Conv2D(
            self.filters,
            kernel_size,
            padding="same",
            data_format=data_format,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
        )
        self.kernel_size = self.injection.kernel_size
        self.data_format = self.injection.data_format

    def build(self, z_shape, x_shape):
        check_images(x_shape, self.data_format)
        self.injection.build(x_shape)
        self.add_recurrent_kernel(
            (*self.kernel_size, self.filters, self.filters)
        )

    def init_state(self, x):
        axis = channel_axis(self.data_format)
        return zero_state(x, self.filters, axis, self.compute_dtype)

    def inject(self, x, kernel):
        return self.injection(x)

    def iterate(self, injection, kernel):
        def step(z):
            moved = ops.conv(
                z, kernel, padding="same", data_format=self.data_format
            )
            return self.activation(moved + injection)

        return step

    def norm_bound(self, kernel):
        return norms.conv2d_gram_norm(kernel)

    def linear_bounds(self):
        kernel = to_numpy(self.normalized_kernel())
        return norms.conv2d_norm(kernel), norms.conv2d_eigenvalue(kernel)

    def rounding_bounds(self):
        kernel = np.abs(to_numpy(self.normalized_kernel()))
        terms = kernel[..., 0].size
        return rounding_share(terms), norms.conv2d_norm(kernel)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "data_format": self.data_format,
        }
