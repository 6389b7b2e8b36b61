import keras
import numpy as np
from keras import ops

from keras_smoothing import checks
from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.cells.contractive_cell import ContractiveCell
from keras_smoothing.equilibrium.cells.inputs import check_vectors
from keras_smoothing.equilibrium.cells.inputs import zero_state
from keras_smoothing.equilibrium.cells.proved_cell import rounding_share
from keras_smoothing.equilibrium.cells.proved_cell import to_numpy


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ContractiveDense(ContractiveCell):
    """The cell z -> activation(W z + U x + b), a contraction in z.

    W is divided by an upper bound of its spectral norm wherever that exceeds
    `contraction`, once per call. So there is one fixed point, plain iteration
    finds it, and `error_bound` says how far away it is at most.

    Args:
        units: int, size of the state.
        contraction: float in (0, 1), the largest Lipschitz constant in z.
        activation: name or function of `keras.activations`: increasing with
            slopes up to 1, such as "tanh" or "relu". None for none.
        kernel_initializer: initializer of U, as in `keras.layers.Dense`.
        recurrent_initializer: initializer of W.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, ..., units)`.
        x: tensor, shape `(batch, ..., features)`.

    Raises:
        ValueError: if `contraction` is not inside (0, 1), or `activation` is
            none of those.

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
