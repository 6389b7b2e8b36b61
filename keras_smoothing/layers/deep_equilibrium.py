import functools
import warnings

import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing import equilibrium
from keras_smoothing.equilibrium.cells.cell import Cell
from keras_smoothing.equilibrium.state import check_specs
from keras_smoothing.equilibrium.state import map_shapes
from keras_smoothing.equilibrium.state import select
from keras_smoothing.equilibrium.state import specs
from keras_smoothing.utils import wide_dtype

_SOLVERS = {
    "anderson": equilibrium.Anderson,
    "broyden": equilibrium.Broyden,
    "fixed_point_iteration": equilibrium.FixedPointIteration,
}
_GRADIENTS = {
    "implicit": equilibrium.Implicit,
    "phantom": equilibrium.Phantom,
    "one_step": equilibrium.OneStep,
    "unrolled": equilibrium.Unrolled,
}


@keras.saving.register_keras_serializable(package="keras_smoothing")
class DeepEquilibrium(keras.layers.Layer):
    """The fixed point z = cell(z, x), as a layer of x.

    `fit` and `evaluate` report the solver's progress as metrics: `<name of the
    layer>_steps` and `_residual`, means over the examples, and `_converged`,
    the share of examples that reached the tolerance. With gradient="implicit",
    `_backward_failed` is the share of examples whose backward pass, in
    training, did not reach it.

    If the states of an example do not stay finite, the example keeps its last
    finite state (NaN if there is none) and passes no gradient to the cell,
    except with gradient="unrolled". Outside of compiled functions the layer
    warns of such examples, in the forward and in the backward pass. In `fit`,
    `ks.callbacks.SolverMonitor` warns of them.

    Args:
        cell: Keras layer called with `(z, x)` that returns a new z: one of
            `ks.equilibrium.cells`, or any other layer that does not draw random
            numbers, update variables or add losses. The solver calls it at
            every step, and a function that changes between steps has no fixed
            point. (`MultiscaleCell(dropout=...)` draws once, before the first
            step.)
        solver: "anderson", "broyden", "fixed_point_iteration" or
            `ks.equilibrium.Solver`. In mixed_bfloat16 the solver may not reach
            a relative tolerance below 4e-3.
        gradient: "implicit", "phantom", "one_step", "unrolled" or
            `ks.equilibrium.Gradient`.
        jacobian_weight: float >= 0, weight in the training loss of
            `ks.equilibrium.jacobian_penalty` at the fixed point. The penalty
            keeps the solver fast, and costs about one more application of the
            cell.
        **kwargs: as in `keras.layers.Layer`. The dtype is the cell's.

    Call arguments:
        x: tensor, shape `(batch, ...)`.
        z_init: tensor or structure of tensors, the state the solver starts
            from. None for the cell's initial state, or for zeros of the shape
            of x if the cell defines none.
        return_solution: bool, whether to return `(output, Solution)`.

    Raises:
        ValueError: if an argument is not as described; when built, if the cell
            changes the shape or dtype of its state.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    model = keras.Sequential([
        keras.Input((20,)),
        ks.layers.DeepEquilibrium(ks.equilibrium.cells.DenseCell(32)),
        keras.layers.Dense(10),
    ])
    model.compile("adam", "mse")
    model.fit(keras.random.normal((64, 20)), keras.random.normal((64, 10)))
    ```

    Reference:
    - [Bai, Kolter and Koltun, 2019](https://arxiv.org/abs/1909.01377)
    - [Bai, Koltun and Kolter, 2021](https://arxiv.org/abs/2106.14342) for the
      penalty
    """

    def __init__(
        self,
        cell,
        solver="anderson",
        gradient="implicit",
        jacobian_weight=0.0,
        **kwargs,
    ):
        if not isinstance(cell, keras.layers.Layer):
            raise ValueError(
                "Invalid value for argument `cell`. Expected a Keras layer. "
                f"Received: cell={cell!r} of type {type(cell)}"
            )
        if getattr(cell, "inputs", None):
            raise ValueError(
                "Invalid value for argument `cell`. Expected a layer called "
                "with `(z, x)`. Received: a functional model, which takes a "
                f"list: cell={cell!r}. A layer may call it in its place."
            )
        super().__init__(**{"dtype": cell.dtype_policy, **kwargs})
        if cell.compute_dtype != self.compute_dtype:
            raise ValueError(
                "Expected a layer that computes as its cell does, in "
                f"{cell.compute_dtype}. Received: dtype={self.dtype_policy}"
            )
        self.cell = cell
        self.solver = _named("solver", solver, _SOLVERS, equilibrium.Solver)
        self.gradient = _named(
            "gradient", gradient, _GRADIENTS, equilibrium.Gradient
        )
        if not 0 <= jacobian_weight < float("inf"):
            raise ValueError(
                "Invalid value for argument `jacobian_weight`. Expected a "
                f"number >= 0. Received: jacobian_weight={jacobian_weight!r}"
            )
        self.jacobian_weight = float(jacobian_weight)
        self.seed_generator = keras.random.SeedGenerator()
        # If set, training unrolls this many applications of the cell and does
        # not use solver and gradient; see `callbacks.UnrolledPretraining`.
        self.unrolled_steps = None
        self.supports_jit = cell.supports_jit
        self._state_specs = None
        self.steps_tracker, self.residual_tracker, self.converged_tracker = (
            keras.metrics.Mean(f"{self.name}_{what}", dtype="float32")
            for what in ("steps", "residual", "converged")
        )
        self.backward_tracker = None
        if self.gradient.solves_backward:
            # It counts failures, so `evaluate`, which has none, shows 0.
            self.backward_tracker = keras.metrics.Mean(
                f"{self.name}_backward_failed", dtype="float32"
            )

    def build(self, x_shape, z_init_shape=None):
        def tensor(shape):
            return keras.KerasTensor((None, *shape[1:]), self.compute_dtype)

        x = tensor(x_shape)
        if z_init_shape is None:
            z = self._state_spec(x)
        else:
            z = map_shapes(tensor, z_init_shape)
        self._state_specs = specs(z)
        image = specs(self.cell(z, x))
        check_specs("a cell that keeps its state", self._state_specs, image)

    def call(self, x, z_init=None, return_solution=False, training=None):
        start = self._init_state(x)
        if z_init is not None:
            expected = specs(start)
            if not isinstance(self.cell, Cell):
                expected = self._state_specs
            check_specs("`z_init` like the state", expected, specs(z_init))
            start = z_init
        solver, gradient = self.solver, self.gradient
        if training and self.unrolled_steps:
            solver = equilibrium.FixedPointIteration(
                self.unrolled_steps, solver.tol, solver.stop_mode, "last"
            )
            gradient = equilibrium.Unrolled()
        f = self._function(x)
        report = functools.partial(self._record_backward, training)
        solution = gradient.apply(f, start, solver, report)
        if training and self.jacobian_weight:
            # Where the states explode, the Jacobian does, too.
            point = select(
                solution.status != equilibrium.NON_FINITE, solution.value, start
            )
            penalty = equilibrium.jacobian_penalty(
                f, point, seed_generator=self.seed_generator
            )
            # Keras adds up losses in floatx only.
            penalty = ops.cast(penalty, keras.config.floatx())
            self.add_loss(self.jacobian_weight * penalty)
        self._record(solution)
        output = self._read_out(solution.value)
        return (output, solution) if return_solution else output

    def _init_state(self, x):
        if isinstance(self.cell, Cell):
            return self.cell.init_state(x)
        return ops.zeros_like(x, dtype=self.compute_dtype)

    def _function(self, x):
        if isinstance(self.cell, Cell):
            return self.cell.bind(x)
        return lambda z: self.cell(z, x)

    def _read_out(self, z):
        return self.cell.read_out(z) if isinstance(self.cell, Cell) else z

    def _record(self, solution):
        converged = solution.status == equilibrium.CONVERGED
        self.steps_tracker.update_state(solution.num_steps)
        self.residual_tracker.update_state(solution.residual)
        self.converged_tracker.update_state(converged)
        self._warn_unless_finite("forward", solution.status)

    def _record_backward(self, training, solution):
        if training:  # An exported gradient cannot hold a variable.
            failed = solution.status != equilibrium.CONVERGED
            self.backward_tracker.update_state(failed)
        self._warn_unless_finite("backward", solution.status)

    def _warn_unless_finite(self, direction, status):
        if backend.is_eager():
            bad = int(ops.sum(status == equilibrium.NON_FINITE))
            if bad:
                warnings.warn(
                    f"The {direction} pass of {bad} of {len(status)} examples "
                    f"did not stay finite in layer {self.name!r}: its cell "
                    "diverges.",
                    stacklevel=3,
                )

    def _state_spec(self, x):
        """The state as symbolic tensors; x must be one."""
        return _Symbolic(self._init_state).compute_output_spec(x)

    def compute_output_spec(
        self, x, z_init=None, return_solution=False, training=None
    ):
        state = self._state_spec(x) if z_init is None else z_init
        state = keras.tree.map_structure(
            lambda z: keras.KerasTensor(z.shape, self.compute_dtype), state
        )
        output = self._read_out(state)
        if not return_solution:
            return output
        batch, dtype = x.shape[:1], wide_dtype(self.compute_dtype)
        return output, equilibrium.Solution(
            state,
            keras.KerasTensor(batch, "int32"),
            keras.KerasTensor(batch, "int32"),
            keras.KerasTensor(batch, dtype),
            keras.KerasTensor((*batch, self.solver.max_iter), dtype),
        )

    def compute_output_shape(self, x_shape, z_init_shape=None):
        x = keras.KerasTensor(x_shape, self.compute_dtype)
        if z_init_shape is not None:
            z_init_shape = map_shapes(keras.KerasTensor, z_init_shape)
        output = self.compute_output_spec(x, z_init_shape)
        return keras.tree.map_structure(lambda z: z.shape, output)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "cell": serialize(self.cell),
            "solver": serialize(self.solver),
            "gradient": serialize(self.gradient),
            "jacobian_weight": self.jacobian_weight,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        names = ("cell", "solver", "gradient", "dtype")
        loaded = {name: deserialize(config[name]) for name in names}
        return cls(**{**config, **loaded})


def _named(argument, value, choices, kind):
    if isinstance(value, str) and value in choices:
        return choices[value]()
    if not isinstance(value, kind):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected one of "
            f"{sorted(choices)} or a keras_smoothing.equilibrium."
            f"{kind.__name__}. Received: {argument}={value!r}"
        )
    return value


class _Symbolic(keras.Operation):
    """A function that Keras can trace without values."""

    def __init__(self, function):
        super().__init__()
        self.call = function
