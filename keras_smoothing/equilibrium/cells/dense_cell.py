import keras
from keras import ops

from keras_smoothing import checks
from keras_smoothing.equilibrium.cells.cell import Cell
from keras_smoothing.equilibrium.cells.inputs import check_vectors
from keras_smoothing.equilibrium.cells.inputs import zero_state


@keras.saving.register_keras_serializable(package="keras_smoothing")
class DenseCell(Cell):
    """The cell z -> activation(W z + U x + b).

    Nothing bounds W in training, so that nothing is proved of the fixed point.
    It starts as half an orthogonal matrix, for which plain iteration converges.

    Args:
        units: int, size of the state.
        activation: as in `keras.layers.Activation`, or None.
        kernel_initializer: initializer of U, as in `keras.layers.Dense`.
        recurrent_initializer: initializer of W; None for half an orthogonal
            matrix.
        **kwargs: of `keras.layers.Layer`.

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
