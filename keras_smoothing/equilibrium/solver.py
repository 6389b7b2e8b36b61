import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium.state import CONVERGED
from keras_smoothing.equilibrium.state import MAX_ITER
from keras_smoothing.equilibrium.state import NON_FINITE
from keras_smoothing.equilibrium.state import Solution
from keras_smoothing.equilibrium.state import State
from keras_smoothing.equilibrium.state import select
from keras_smoothing.l2 import l2_norm

_RUNNING = -1


class Solver:
    """Finds z = f(z) for each example of a batch. Base class.

    This class implements the loop. A subclass defines `next_iterate`, which
    computes the next iterate from the previous ones. Each example stops
    independently and keeps its answer, so the answer does not depend on the
    rest of the batch.

    Args:
        max_iter: int >= 1, the largest number of applications of `f`.
        tol: float > 0, the residual at which an example has converged.
        stop_mode: "rel" for the residual `||f(z) - z|| / ||f(z)||`, "abs" for
            `||f(z) - z||`.
        iterate: "best" returns `f` at the iterate with the smallest residual,
            "last" returns `f` at the last iterate.

    Raises:
        ValueError: if an argument is not as described.
    """

    def __init__(self, max_iter=30, tol=1e-3, stop_mode="rel", iterate="best"):
        self.max_iter = checks.positive_int("max_iter", max_iter)
        self.tol = checks.positive_float("tol", tol)
        checks.one_of("stop_mode", stop_mode, ("rel", "abs"))
        checks.one_of("iterate", iterate, ("best", "last"))
        self.stop_mode = stop_mode
        self.iterate = iterate

    def init_memory(self, z):
        """Tensors that `next_iterate` carries from step to step.

        Args:
            z: tensor, shape `(batch, size)`: float32, or float64 where the
                state is.

        Returns:
            tuple of tensors.
        """
        return ()

    def next_iterate(self, step, z, f_z, memory):
        """Where to apply `f` next.

        Args:
            step: int32 tensor, number of steps so far.
            z: tensor, shape `(batch, size)`, as in `init_memory`.
            f_z: tensor of that shape; z itself where an example has stopped.
            memory: tuple of tensors.

        Returns:
            The next z, and the memory. Where the next z is not finite, `f_z`
            replaces it.
        """
        raise TypeError(f"{type(self).__name__} defines no `next_iterate`.")

    def solve(self, f, z_init):
        """Solves z = f(z).

        Args:
            f: function that maps a structure like `z_init` to another of the
                same kind.
            z_init: tensor, shape `(batch, ...)`, or a structure of them.

        Returns:
            `Solution`.

        Raises:
            ValueError: if `f` changes shapes or dtypes.
        """
        z_init = keras.tree.map_structure(ops.convert_to_tensor, z_init)
        state = State(z_init)
        f = state.on_matrices(f)
        z = state.to_matrix(z_init)
        batch = ops.shape(z)[0]
        # Until `f` has been finite once, there is no answer.
        value = ops.full_like(z, float("nan"))
        infinite = ops.full((batch,), float("inf"), state.dtype)
        trace = ops.full((batch, self.max_iter), float("nan"), state.dtype)
        status = ops.full((batch,), _RUNNING, "int32")
        num_steps = ops.zeros((batch,), "int32")

        def is_running(step, z, value, residual, status, *_):
            return ops.any(status == _RUNNING)

        def take_step(
            step, z, value, residual, status, num_steps, trace, *memory
        ):
            f_z = f(z)
            # The residual only controls the loop, and has no gradient at 0.
            now = ops.stop_gradient(self._residual(z, f_z))
            running = status == _RUNNING
            finite = ops.isfinite(now)
            goes_on = ops.logical_and(running, finite)
            # Non-finite values never enter the state that is kept.
            f_z = select(goes_on, f_z, z)
            better = goes_on
            if self.iterate == "best":
                better = ops.logical_and(goes_on, now < residual)
            value = select(better, f_z, value)
            residual = ops.where(better, now, residual)
            num_steps = num_steps + ops.cast(running, "int32")
            here = ops.expand_dims(goes_on, 1)
            steps = ops.arange(self.max_iter, dtype="int32")
            here = ops.logical_and(here, steps == step)
            trace = ops.where(here, ops.expand_dims(now, 1), trace)
            done = ops.where(now <= self.tol, CONVERGED, status)
            done = ops.where(finite, done, NON_FINITE)
            status = ops.where(running, done, status)
            following, memory = self.next_iterate(step, z, f_z, memory)
            moves = ops.isfinite(ops.sum(following, axis=1))
            moves = ops.logical_and(moves, status == _RUNNING)
            z = select(moves, following, f_z)
            return (
                *(step + 1, z, value, residual, status, num_steps, trace),
                *memory,
            )

        step = ops.convert_to_tensor(0, "int32")
        _, _, value, residual, status, num_steps, trace, *_ = ops.while_loop(
            is_running,
            take_step,
            (
                *(step, z, value, infinite, status, num_steps, trace),
                *self.init_memory(z),
            ),
            maximum_iterations=self.max_iter,
        )
        status = ops.where(status == _RUNNING, MAX_ITER, status)
        value = state.to_structure(value)
        return Solution(value, status, num_steps, residual, trace)

    def _residual(self, z, f_z):
        residual = l2_norm(f_z - z)
        if self.stop_mode == "rel":
            # States and gradients may be of any scale. Where f(z) is 0 and z
            # is not, the quotient is large but finite, not a divergence.
            size = ops.maximum(l2_norm(f_z), 1e-30 * residual + 2.0**-126)
            residual = residual / size
        return residual

    def get_config(self):
        return {
            "max_iter": self.max_iter,
            "tol": self.tol,
            "stop_mode": self.stop_mode,
            "iterate": self.iterate,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)
