import keras
import numpy as np
from keras import ops

from keras_smoothing import checks
from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.cells.inputs import check_vectors
from keras_smoothing.equilibrium.cells.inputs import zero_state
from keras_smoothing.equilibrium.cells.monotone_cell import MonotoneCell
from keras_smoothing.equilibrium.cells.proved_cell import rounding_share
from keras_smoothing.equilibrium.cells.proved_cell import to_numpy


@keras.saving.register_keras_serializable(package="keras_smoothing")
class MonotoneDense(MonotoneCell):
    """A monotone operator network: z* = relu(W z* + U x + b), one solution.

    W = (1 - margin) I - A'A + B - B' with free matrices A and B. The norm of W
    may be large, unlike that of a contraction. The cell is a splitting method
    whose fixed point gives z*, and a contraction for the default step. With
    "peaceman_rachford", which inverts a matrix once per call, `read_out` turns
    the state into z. With "forward_backward" the state is z itself, but where
    |I - W| is large it takes small steps: then its residual is small also far
    from z*, as `error_bound` tells.

    Args:
        units: int, size of the state.
        margin: float > 0, how strongly monotone I - W is.
        splitting: "peaceman_rachford" or "forward_backward".
        step_size: float > 0; None for one from a bound of |I - W|. Peaceman-
            Rachford converges for all steps, forward-backward for those below
            2 margin / |I - W|^2.
        kernel_initializer: initializer of U, as in `keras.layers.Dense`.
        recurrent_initializer: initializer of A and of B; None for a small
            uniform one.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, ..., units)`.
        x: tensor, shape `(batch, ..., features)`.

    Raises:
        ValueError: if `margin` or `step_size` is not above 0, or `splitting`
            unknown.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.MonotoneDense(32)
    x = keras.random.normal((4, 8))
    state = cell.init_state(x)
    for _ in range(20):
        state = cell(state, x)
    z = cell.read_out(state)
    ```

    Reference:
    - [Winston and Kolter, 2020](https://arxiv.org/abs/2006.08591)
    """

    def __init__(
        self,
        units,
        margin=1.0,
        splitting="peaceman_rachford",
        step_size=None,
        kernel_initializer="glorot_uniform",
        recurrent_initializer=None,
        **kwargs,
    ):
        super().__init__(
            margin,
            splitting,
            step_size,
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
        self.add_recurrent_kernels((self.units, self.units))

    def init_state(self, x):
        return zero_state(x, self.units, -1, self.compute_dtype)

    def operator(self):
        a, b = self.symmetric_kernel, self.skew_kernel
        symmetric = ops.matmul(a, ops.transpose(a))
        skew = ops.transpose(b) - b
        identity = ops.eye(self.units, dtype=symmetric.dtype)
        return self.margin * identity + symmetric + skew

    def operator_norm(self, operator):
        return norms.gram_norm(operator)

    def forward(self, operator, step):
        identity = ops.eye(self.units, dtype=operator.dtype)
        return ops.cast(identity - step * operator, self.compute_dtype)

    def reflected_resolvent(self, operator, step):
        identity = ops.eye(self.units, dtype=operator.dtype)
        resolvent = ops.inv(identity + step * operator)
        return ops.cast(2 * resolvent - identity, self.compute_dtype)

    def apply(self, linear, z):
        return ops.matmul(z, linear)

    def linear_bounds(self):
        linear = to_numpy(self.linear_map()[0])
        return norms.dense_norm(linear), norms.dense_eigenvalue(linear)

    def rounding_bounds(self):
        linear = to_numpy(self.linear_map()[0])
        return rounding_share(self.units), norms.dense_norm(np.abs(linear))

    def get_config(self):
        return {**super().get_config(), "units": self.units}
