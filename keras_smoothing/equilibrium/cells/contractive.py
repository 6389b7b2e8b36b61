import keras
import numpy as np
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.cells.cell import check_images
from keras_smoothing.equilibrium.cells.cell import check_vectors
from keras_smoothing.equilibrium.cells.cell import zero_state
from keras_smoothing.equilibrium.cells.proved_cell import SLACK
from keras_smoothing.equilibrium.cells.proved_cell import ProvedCell
from keras_smoothing.equilibrium.cells.proved_cell import rounding_share
from keras_smoothing.equilibrium.cells.proved_cell import to_numpy
from keras_smoothing.utils import channel_axis
from keras_smoothing.utils import wide_dtype

# Increasing, with slopes up to 1.
ACTIVATIONS = (
    "celu",
    "elu",
    "hard_sigmoid",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "relu",
    "relu6",
    "sigmoid",
    "soft_shrink",
    "softplus",
    "softsign",
    "squareplus",
    "tanh",
    "tanh_shrink",
)


class ContractiveCell(ProvedCell):
    """z -> activation(W z + U x + b) with ||W|| < 1. Base class."""

    def __init__(
        self,
        contraction,
        activation,
        kernel_initializer,
        recurrent_initializer,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.contraction = checks.probability("contraction", contraction)
        self.activation = keras.activations.get(activation)
        allowed = [getattr(keras.activations, name) for name in ACTIVATIONS]
        if self.activation not in allowed:
            raise ValueError(
                "Invalid value for argument `activation`. Expected one that is "
                f"increasing with slopes up to 1: {', '.join(ACTIVATIONS)}. "
                f"Received: activation={activation!r}"
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(
            recurrent_initializer
        )

    def norm_bound(self, kernel):
        """Differentiable upper bound on the norm of W."""
        raise TypeError(f"{type(self).__name__} does not define `norm_bound`.")

    def add_recurrent_kernel(self, shape):
        # Never in half precision, because it is normalised first.
        self.recurrent_kernel = self.add_weight(
            shape,
            self.recurrent_initializer,
            name="recurrent_kernel",
            dtype=wide_dtype(self.variable_dtype),
            autocast=False,
        )

    def constants(self):
        return self.normalized_kernel()

    def normalized_kernel(self):
        """W as the cell applies it, with norm at most `contraction`.

        Returns:
            tensor in the cell's compute dtype.
        """
        # Leave room for rounding, so that the host's bound is no larger.
        largest = self.contraction * (1 - 3 * SLACK)
        bound = self.norm_bound(self.recurrent_kernel)
        scale = largest / ops.maximum(bound, largest)
        return ops.cast(self.recurrent_kernel * scale, self.compute_dtype)

    def compute_output_shape(self, z_shape, x_shape):
        return z_shape

    def get_config(self):
        serialize = keras.initializers.serialize
        return {
            **super().get_config(),
            "contraction": self.contraction,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ContractiveDense(ContractiveCell):
    """The cell z -> activation(W z + U x + b), a contraction in z.

    Each call scales W down to a norm of at most `contraction` if an upper bound
    on its spectral norm exceeds that. So there is a unique fixed point, plain
    iteration finds it, and `error_bound` bounds the distance to it.

    Args:
        units: int, size of the state.
        contraction: float in (0, 1), the largest Lipschitz constant in z.
        activation: name or function of `keras.activations`: increasing with
            slopes up to 1, such as "tanh" or "relu". None for none.
        kernel_initializer: initializer of U, as in `keras.layers.Dense`.
        recurrent_initializer: initializer of W.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, ..., units)`.
        x: tensor, shape `(batch, ..., features)`.

    Raises:
        ValueError: if `contraction` is not inside (0, 1), or `activation` is
            not one of these.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.ContractiveDense(32, contraction=0.8)
    x = keras.random.normal((4, 8))
    z = cell.init_state(x)
    for _ in range(20):
        previous, z = z, cell(z, x)
    cell.lipschitz_bound()  # At most 0.8.
    cell.error_bound(np.linalg.norm(z - previous, axis=1))
    ```

    Reference:
    - [Delattre et al., 2023](https://arxiv.org/abs/2305.16173)
    """

    def __init__(
        self,
        units,
        contraction=0.9,
        activation="tanh",
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
        self.units = checks.positive_int("units", units)
        self.injection = keras.layers.Dense(
            self.units,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
        )

    def build(self, z_shape, x_shape):
        check_vectors(x_shape)
        self.injection.build(x_shape)
        self.add_recurrent_kernel((self.units, self.units))

    def init_state(self, x):
        return zero_state(x, self.units, -1, self.compute_dtype)

    def inject(self, x, kernel):
        return self.injection(x)

    def iterate(self, injection, kernel):
        return lambda z: self.activation(ops.matmul(z, kernel) + injection)

    def norm_bound(self, kernel):
        return norms.gram_norm(kernel)

    def linear_bounds(self):
        kernel = to_numpy(self.normalized_kernel())
        return norms.dense_norm(kernel), norms.dense_eigenvalue(kernel)

    def rounding_bounds(self):
        kernel = to_numpy(self.normalized_kernel())
        return rounding_share(self.units), norms.dense_norm(np.abs(kernel))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ContractiveConv2D(ContractiveCell):
    """The cell z -> activation(W z + U x + b) for images, a contraction in z.

    W and U are convolutions with zero padding that keep height and width. Each
    call scales W down to a norm of at most `contraction` if an upper bound on
    its l2 norm exceeds that. The bound holds for images of all sizes.

    Args:
        filters: int, channels of the state.
        kernel_size: int or tuple of 2 ints, of both convolutions.
        contraction: as in `ContractiveDense`.
        activation: as in `ContractiveDense`.
        data_format: "channels_last" or "channels_first"; None for
            `keras.config.image_data_format()`.
        kernel_initializer: initializer of U, as in `keras.layers.Conv2D`.
        recurrent_initializer: initializer of W.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, height, width, filters)`.
        x: tensor, shape `(batch, height, width, channels)`.

    Raises:
        ValueError: if `contraction` is not inside (0, 1), or `activation` is
            not one of these.

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
