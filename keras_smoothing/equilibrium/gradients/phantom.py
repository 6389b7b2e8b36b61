import keras

from keras_smoothing import backend
from keras_smoothing import checks
from keras_smoothing.equilibrium.fixed_point_iteration import check_damping
from keras_smoothing.equilibrium.fixed_point_iteration import damped
from keras_smoothing.equilibrium.gradients.gradient import Gradient
from keras_smoothing.equilibrium.gradients.gradient import solve_aside
from keras_smoothing.equilibrium.solution import NON_FINITE
from keras_smoothing.equilibrium.state import select


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Phantom(Gradient):
    """The gradient of a few damped steps from the fixed point.

    Cheaper than `Implicit`, and with an error that shrinks as the steps grow in
    number. The derivatives of an approximation approximate nothing: where this
    gradient is differentiated, or asked for in forward mode, it raises
    NotImplementedError.

    Args:
        steps: int >= 1.
        damping: float in [0, 1): a step goes to `damping * z + (1 - damping) *
            f(z)`.

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
