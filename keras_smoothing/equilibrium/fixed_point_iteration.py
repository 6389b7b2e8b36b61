import keras

from keras_smoothing.equilibrium.solver import Solver


@keras.saving.register_keras_serializable(package="keras_smoothing")
class FixedPointIteration(Solver):
    """Applies f repeatedly.

    It converges if f is a contraction.

    Args:
        max_iter: as in `ks.equilibrium.Solver`.
        tol: as in `ks.equilibrium.Solver`.
        stop_mode: as in `ks.equilibrium.Solver`.
        iterate: as in `ks.equilibrium.Solver`.
        damping: float in [0, 1). Each step moves z to
            `damping * z + (1 - damping) * f(z)`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    from keras import ops
    import keras_smoothing as ks

    solver = ks.equilibrium.FixedPointIteration(damping=0.2)
    solver.solve(ops.cos, ops.zeros((1, 1))).value  # 0.739...
    ```
    """

    def __init__(
        self,
        max_iter=30,
        tol=1e-3,
        stop_mode="rel",
        iterate="best",
        damping=0.0,
    ):
        super().__init__(max_iter, tol, stop_mode, iterate)
        self.damping = check_damping(damping)

    def next_iterate(self, step, z, f_z, memory):
        return damped(z, f_z, self.damping), memory

    def get_config(self):
        return {**super().get_config(), "damping": self.damping}


def damped(z, f_z, damping):
    """`damping * z + (1 - damping) * f_z`."""
    return f_z + damping * (z - f_z) if damping else f_z


def check_damping(damping):
    """Returns `damping` as a float; raises unless it lies in [0, 1)."""
    if not 0 <= damping < 1:
        raise ValueError(
            "Invalid value for argument `damping`. Expected a number in "
            f"[0, 1). Received: damping={damping!r}"
        )
    return float(damping)
