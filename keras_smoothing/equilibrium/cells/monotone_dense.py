import keras
import numpy as np
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.cells.cell import check_vectors
from keras_smoothing.equilibrium.cells.cell import zero_state
from keras_smoothing.equilibrium.cells.proved_cell import ProvedCell
from keras_smoothing.equilibrium.cells.proved_cell import rounding_share
from keras_smoothing.equilibrium.cells.proved_cell import to_numpy
from keras_smoothing.utils import wide_dtype

SPLITTINGS = ("forward_backward", "peaceman_rachford")


class MonotoneCell(ProvedCell):
    """A monotone operator network, z* = relu(W z* + U x + b). Base class.

    W = I - M with M = margin I + A'A - B + B', so that <M z, z> is never below
    margin |z|^2. z* solves the inclusion 0 in M z - c + N(z), where c = U x + b
    and N is the normal cone of z >= 0. For a step size s, the splittings are

    - forward-backward: z -> relu(z - s (M z - c)) = relu(G z + s c) with
      G = I - s M. Here |G|^2 <= 1 - 2 s margin + s^2 |M|^2, a bound that is
      smallest at s = margin / |M|^2.
    - Peaceman-Rachford: u -> R(2 relu(u) - u) with the reflected resolvent
      R(w) = 2 V (w + s c) - w, V = (I + s M)^-1. As 2 relu(u) - u = |u|, it is
      u -> G |u| + s (G c + c) with G = 2 V - I. Here |G|^2 <= 1 - 4 s margin /
      (1 + s |M|)^2 < 1 for every s, a bound that is smallest at s = 1 / |M|.
      Then z* = relu(u*).
    """

    def __init__(
        self,
        margin,
        splitting,
        step_size,
        kernel_initializer,
        recurrent_initializer,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.margin = checks.positive_float("margin", margin)
        checks.one_of("splitting", splitting, SPLITTINGS)
        self.splitting = splitting
        if step_size is not None:
            step_size = checks.positive_float("step_size", step_size)
        self.step_size = step_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        if recurrent_initializer is None:
            recurrent_initializer = keras.initializers.VarianceScaling(
                0.1, "fan_in", "uniform"
            )
        self.recurrent_initializer = keras.initializers.get(
            recurrent_initializer
        )

    @property
    def phi_is_proximal(self):
        # |u| is decreasing for u < 0.
        return self.splitting == "forward_backward"

    def add_recurrent_kernels(self, shape):
        # Never in half precision, because the splitting is computed first.
        initializer = self.recurrent_initializer
        dtype = wide_dtype(self.variable_dtype)
        policy = {"dtype": dtype, "autocast": False}
        self.symmetric_kernel = self.add_weight(
            shape, initializer, name="symmetric_kernel", **policy
        )
        # An initializer repeats its values when reused; its clone does not.
        if isinstance(initializer, keras.initializers.Initializer):
            initializer = initializer.clone()
        self.skew_kernel = self.add_weight(
            shape, initializer, name="skew_kernel", **policy
        )

    def operator(self):
        """M, a tensor with the dtype of the kernels."""
        raise TypeError(f"{type(self).__name__} does not define `operator`.")

    def operator_norm(self, operator):
        """Upper bound on |M|, a scalar tensor."""
        raise TypeError(
            f"{type(self).__name__} does not define `operator_norm`."
        )

    def forward(self, operator, step):
        """I - s M, in the form that `apply` expects."""
        raise TypeError(f"{type(self).__name__} does not define `forward`.")

    def reflected_resolvent(self, operator, step):
        """2 (I + s M)^-1 - I, in the form that `apply` expects."""
        raise TypeError(
            f"{type(self).__name__} does not define `reflected_resolvent`."
        )

    def apply(self, linear, z):
        """Applies `linear`, the result of one of these two methods, to z."""
        raise TypeError(f"{type(self).__name__} does not define `apply`.")

    def linear_map(self):
        """G of the splitting, in the form for `apply`, and the step size."""
        operator = self.operator()
        forward = self.splitting == "forward_backward"
        step = self.step_size
        if step is None:
            norm = ops.stop_gradient(self.operator_norm(operator))
            step = self.margin / norm**2 if forward else 1 / norm
        if forward:
            return self.forward(operator, step), step
        return self.reflected_resolvent(operator, step), step

    def constants(self):
        linear, step = self.linear_map()
        return linear, ops.cast(step, self.compute_dtype)

    def inject(self, x, constants):
        linear, step = constants
        injection = self.injection(x)
        if self.splitting == "forward_backward":
            return step * injection
        return step * (self.apply(linear, injection) + injection)

    def iterate(self, injection, constants):
        linear, _ = constants
        if self.splitting == "forward_backward":
            return lambda z: ops.relu(self.apply(linear, z) + injection)
        return lambda u: self.apply(linear, ops.abs(u)) + injection

    def read_out(self, z):
        if self.splitting == "forward_backward":
            return z
        return ops.relu(z)

    def compute_output_shape(self, z_shape, x_shape):
        return z_shape

    def get_config(self):
        serialize = keras.initializers.serialize
        return {
            **super().get_config(),
            "margin": self.margin,
            "splitting": self.splitting,
            "step_size": self.step_size,
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_smoothing")
class MonotoneDense(MonotoneCell):
    """A monotone operator network: z* = relu(W z* + U x + b), one solution.

    W = (1 - margin) I - A'A + B - B' with free matrices A and B. Its norm may
    be large, unlike that of a contraction. The cell is one step of a splitting
    method whose fixed point gives z*. With the default step size the step is a
    contraction. "peaceman_rachford" inverts a matrix once per call, and
    `read_out` turns the state into z. With "forward_backward" the state is z
    itself, but if |I - W| is large, steps are small: the residual may then be
    small even far from z*. `error_bound` accounts for that.

    Args:
        units: int, size of the state.
        margin: float > 0, how strongly monotone I - W is.
        splitting: "peaceman_rachford" or "forward_backward".
        step_size: float > 0; None to derive it from a bound on |I - W|.
            Peaceman-Rachford converges for every step size, forward-backward
            for step sizes below 2 margin / |I - W|^2.
        kernel_initializer: initializer of U, as in `keras.layers.Dense`.
        recurrent_initializer: initializer of A and of B; None for a small
            uniform one.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, ..., units)`.
        x: tensor, shape `(batch, ..., features)`.

    Raises:
        ValueError: if `margin` or `step_size` is not above 0, or `splitting` is
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
