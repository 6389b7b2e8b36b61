import abc

import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium.fixed_point_iteration import check_damping
from keras_smoothing.equilibrium.fixed_point_iteration import damped
from keras_smoothing.equilibrium.solver import Solver
from keras_smoothing.equilibrium.state import NON_FINITE
from keras_smoothing.equilibrium.state import State
from keras_smoothing.equilibrium.state import select


class Gradient(abc.ABC):
    """A rule for gradients through a fixed point. Base class.

    Every rule returns the solver's value. Second-order gradients, as in a
    gradient penalty, are correct with `Implicit` and `Unrolled`; the other
    rules raise NotImplementedError for them. Forward mode
    (`tf.autodiff.ForwardAccumulator`) is correct with `Unrolled`; the other
    rules raise NotImplementedError.

    An example whose states did not stay finite passes no gradient on. If f is
    not finite even at the start, the example's value is NaN, so that the loss
    shows it.
    """

    # Whether the backward pass solves for its own fixed point.
    solves_backward = False

    @abc.abstractmethod
    def apply(self, f, z_init, solver, report=None):
        """Solves z = f(z), differentiably.

        Args:
            f: function that maps a structure like `z_init` to another of the
                same kind and that TensorFlow can trace.
            z_init: tensor, shape `(batch, ...)`, or a structure of them.
            solver: `Solver`.
            report: function called with the `Solution` of each backward solve,
                or None.

        Returns:
            `Solution`, whose value has gradients with respect to everything `f`
            depends on.
        """

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def solve_aside(f, z_init, solver):
    """Solves without gradients.

    Returns:
        `Solution`, and the point at which to differentiate `f`: the solution's
        value, or `z_init` where the states did not stay finite.
    """

    def detached(z):
        return keras.tree.map_structure(ops.stop_gradient, f(z))

    z_init = keras.tree.map_structure(ops.stop_gradient, z_init)
    solution = solver.solve(detached, z_init)
    value = keras.tree.map_structure(ops.stop_gradient, solution.value)
    point = select(solution.status != NON_FINITE, value, z_init)
    return solution._replace(value=value), point


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Implicit(Gradient):
    """The gradient of the fixed point itself, by the implicit function theorem.

    The backward pass solves y = J' y + g with a solver of its own, where J is
    the Jacobian of f at the fixed point and g is the upstream gradient. It
    needs the memory of one application of f, however many steps the solver
    took. An example whose backward pass does not stay finite passes no gradient
    on.

    The gradient can be differentiated again, as a gradient penalty requires;
    its accuracy is that of the solvers. In a `tf.function` all tapes must be
    inside. Forward mode raises NotImplementedError.

    Args:
        solver: `Solver` of the backward pass. None for the forward solver with
            relative stopping, since gradients come in all scales.

    Raises:
        ValueError: if `solver` is neither.

    Example:

    ```python
    import keras_smoothing as ks

    solver = ks.equilibrium.Anderson(tol=1e-5)
    gradient = ks.equilibrium.Implicit(solver)
    cell = ks.equilibrium.cells.DenseCell(16)
    layer = ks.layers.DeepEquilibrium(cell, gradient=gradient)
    ```

    Reference:
    - [Bai, Kolter and Koltun, 2019](https://arxiv.org/abs/1909.01377)
    """

    def __init__(self, solver=None):
        if solver is not None:
            checks.instance("solver", solver, Solver, "Anderson()")
        self.solver = solver

    solves_backward = True

    def apply(self, f, z_init, solver, report=None):
        backward = self.solver
        if backward is None:
            config = {**solver.get_config(), "stop_mode": "rel"}
            backward = solver.from_config(config)
        solution, point = solve_aside(f, z_init, solver)
        state = State(point)
        forward_finite = solution.status != NON_FINITE

        def solve(step, upstream):
            adjoint = backward.solve(step, upstream)
            if report is not None:
                report(adjoint)
            finite = adjoint.status != NON_FINITE
            finite = ops.logical_and(forward_finite, finite)
            return select(finite, adjoint.value, ops.zeros_like(upstream))

        value = backend.implicit_gradient(
            state.on_matrices(f),
            state.to_matrix(point),
            state.to_matrix(solution.value),
            solve,
        )
        return solution._replace(value=state.to_structure(value))

    def get_config(self):
        return {"solver": keras.saving.serialize_keras_object(self.solver)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["solver"]))


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Phantom(Gradient):
    """The gradient of a few damped steps from the fixed point.

    It is cheaper than `Implicit`, and its error shrinks with the number of
    steps. Derivatives of an approximate gradient need not approximate anything,
    so differentiating it again, or in forward mode, raises NotImplementedError.

    Args:
        steps: int >= 1.
        damping: float in [0, 1). Each step moves z to
            `damping * z + (1 - damping) * f(z)`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras_smoothing as ks

    gradient = ks.equilibrium.Phantom(steps=4, damping=0.2)
    cell = ks.equilibrium.cells.DenseCell(16)
    layer = ks.layers.DeepEquilibrium(cell, gradient=gradient)
    ```

    Reference:
    - [Geng et al., 2021](https://arxiv.org/abs/2111.05177)
    """

    def __init__(self, steps=5, damping=0.5):
        self.steps = checks.positive_int("steps", steps)
        self.damping = check_damping(damping)

    def apply(self, f, z_init, solver, report=None):
        solution, z = solve_aside(f, z_init, solver)
        finite = solution.status != NON_FINITE
        for _ in range(self.steps):
            moved = keras.tree.map_structure(self._move, z, f(z))
            z = select(finite, moved, z)
        value = keras.tree.map_structure(self._with_gradient, solution.value, z)
        return solution._replace(value=value)

    def _with_gradient(self, value, z):
        return backend.first_gradient_of(
            value,
            z,
            "A gradient that is differentiated must be exact. Expected: "
            "gradient=Implicit() or Unrolled(). Received: the first-order "
            f"approximation {type(self).__name__}()",
        )

    def _move(self, z, f_z):
        return damped(z, f_z, self.damping)

    def get_config(self):
        return {"steps": self.steps, "damping": self.damping}


@keras.saving.register_keras_serializable(package="keras_smoothing")
class OneStep(Phantom):
    """The gradient of one application of f at the fixed point.

    As with `Phantom`, it cannot be differentiated again.

    Example:

    ```python
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(16)
    gradient = ks.equilibrium.OneStep()
    layer = ks.layers.DeepEquilibrium(cell, gradient=gradient)
    ```

    Reference:
    - [Fung et al., 2021](https://arxiv.org/abs/2103.12803)
    """

    def __init__(self):
        super().__init__(steps=1, damping=0.0)

    def get_config(self):
        return {}


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Unrolled(Gradient):
    """The gradient through all steps of the solver, as in any deep network.

    It needs the memory of all steps. It supports derivatives of every order and
    forward mode. Their error falls more slowly than that of the value, so they
    need more steps.

    Example:

    ```python
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(16)
    gradient = ks.equilibrium.Unrolled()
    layer = ks.layers.DeepEquilibrium(cell, gradient=gradient)
    ```
    """

    def apply(self, f, z_init, solver, report=None):
        return solver.solve(f, z_init)
