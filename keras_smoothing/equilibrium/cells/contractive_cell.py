import keras
from keras import ops

from keras_smoothing import checks
from keras_smoothing.equilibrium.cells.proved_cell import SLACK
from keras_smoothing.equilibrium.cells.proved_cell import ProvedCell
from keras_smoothing.wide_dtype import wide_dtype

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
        """Differentiable upper bound of the norm of W."""
        raise TypeError(f"{type(self).__name__} does not define `norm_bound`.")

    def add_recurrent_kernel(self, shape):
        # Not in half precision: it is normalised first.
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
        """W as the cell applies it, its norm at most `contraction`.

        Returns:
            tensor, of the type in which the cell computes.
        """
        # Room for rounding, so that the bound on the host is no larger.
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
