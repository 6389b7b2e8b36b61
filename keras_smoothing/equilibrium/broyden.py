import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium.solver import Solver
from keras_smoothing.l2 import power_of_two

# Number of pairs of vectors that are used or skipped together.
_BLOCK = 5


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Broyden(Solver):
    """Newton's method with an approximate inverse Jacobian of low rank.

    The inverse of the Jacobian of g(z) = f(z) - z is approximated by -I + U V'.
    Each step adds a column to U and V ("good" Broyden updates). When the memory
    is full, the new column replaces the oldest.

    Args:
        max_iter: as in `ks.equilibrium.Solver`.
        tol: as in `ks.equilibrium.Solver`.
        stop_mode: as in `ks.equilibrium.Solver`.
        iterate: as in `ks.equilibrium.Solver`.
        memory: int >= 1, number of columns kept.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    from keras import ops
    import keras_smoothing as ks

    solver = ks.equilibrium.Broyden(tol=1e-6)
    solver.solve(ops.cos, ops.zeros((1, 1))).value  # 0.739085...
    ```

    Reference:
    - [Broyden, 1965](https://doi.org/10.1090/S0025-5718-1965-0198670-6)
    """

    def __init__(
        self,
        max_iter=30,
        tol=1e-3,
        stop_mode="rel",
        iterate="best",
        memory=30,
    ):
        super().__init__(max_iter, tol, stop_mode, iterate)
        self.memory = checks.positive_int("memory", memory)

    def init_memory(self, z):
        # As in Anderson, the newest come first, each in its own tensor.
        columns = min(self.memory, self.max_iter)
        return (z, *[ops.zeros_like(z)] * (2 + 2 * columns))

    def next_iterate(self, step, z, f_z, memory):
        old_z, old_g, old_direction, *columns = memory
        half = len(columns) // 2
        us, vs = columns[:half], columns[half:]
        # Drop the oldest column and undo its effect on the old direction.
        old_direction = old_direction + us[-1] * _dot(vs[-1], old_g)
        us, vs = us[:-1], vs[:-1]
        g = f_z - z
        dz, dg = z - old_z, g - old_g
        direction, v = self._multiply(us, vs, step - 1, g, dz)
        # B dg, because a direction is -B g.
        b_dg = old_direction - direction
        # v is scaled up so that no product underflows, and u down by as much.
        power = power_of_two(dz, 1)
        v = power * v
        scale = _dot(v, dg)
        # Skip updates that are nearly singular.
        usable = ops.abs(scale) > 1e-7 * _dot(power * dz, dz)
        u = (dz - b_dg) / ops.where(usable, scale, 1.0)
        u = ops.where(usable, u, 0.0)
        direction = direction - u * _dot(v, g)
        return z + direction, (z, g, direction, u, *us, v, *vs)

    def _multiply(self, us, vs, filled, g, dz):
        """-B g and dz' B for B = -I + U V' with `filled` leading columns."""

        def add(start, direction, v):
            if start >= len(us):
                return direction, v

            def block():
                new_direction, new_v = direction, v
                for i in range(start, min(start + _BLOCK, len(us))):
                    new_direction = new_direction - us[i] * _dot(vs[i], g)
                    new_v = new_v + vs[i] * _dot(us[i], dz)
                return add(start + _BLOCK, new_direction, new_v)

            return ops.cond(filled > start, block, lambda: (direction, v))

        return add(0, g, -dz)

    def get_config(self):
        return {**super().get_config(), "memory": self.memory}


def _dot(x, y):
    return ops.sum(x * y, axis=1, keepdims=True)
