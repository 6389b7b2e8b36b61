import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing import checks
from keras_smoothing.equilibrium.gradients.gradient import Gradient
from keras_smoothing.equilibrium.gradients.gradient import solve_aside
from keras_smoothing.equilibrium.solution import NON_FINITE
from keras_smoothing.equilibrium.solver import Solver
from keras_smoothing.equilibrium.state import State
from keras_smoothing.equilibrium.state import select


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Implicit(Gradient):
    """The gradient of the fixed point itself, by the implicit function theorem.

    The backward pass solves y = J' y + g, where J is the Jacobian of f at the
    fixed point and g the gradient that arrives, with a solver of its own. It
    needs the memory of one application of f, however many steps the solver
    took. An example whose backward pass does not stay finite passes no gradient
    on.

    It can be differentiated again, as a gradient penalty asks for, as precisely
    as the solvers solve. In a `tf.function` all tapes must be inside; forward
    mode raises NotImplementedError.

    Args:
        solver: `Solver` of the backward pass; None for that of the forward,
            with relative stopping, since gradients come in all scales.

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
