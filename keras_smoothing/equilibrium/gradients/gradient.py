import keras
from keras import ops

from keras_smoothing.equilibrium.solution import NON_FINITE
from keras_smoothing.equilibrium.state import select


class Gradient:
    """A rule for gradients through a fixed point. Base class.

    The value is that of the solver, whatever the rule. Gradients of gradients,
    as of a gradient penalty, are right by `Implicit` and `Unrolled`; the other
    rules raise NotImplementedError there. Forward mode, by
    `tf.autodiff.ForwardAccumulator`, is right by `Unrolled` and raises
    NotImplementedError by the others.

    An example whose states did not stay finite passes no gradient on; one for
    which f is not finite even at the start has NaN as its value, so that the
    loss shows it.
    """

    # Whether the backward pass solves for a fixed point of its own.
    solves_backward = False

    def apply(self, f, z_init, solver, report=None):
        """Solves z = f(z), differentiably.

        Args:
            f: function from a structure like `z_init` to another such, which
                TensorFlow can trace.
            z_init: tensor, shape `(batch, ...)`, or a structure of such.
            solver: `Solver`.
            report: function called with the `Solution` of each backward pass
                that solves, or None.

        Returns:
            `Solution`, whose value carries gradients to what `f` depends on.
        """
        raise TypeError(f"{type(self).__name__} does not define `apply`.")

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def solve_aside(f, z_init, solver):
    """Solves without gradients.

    Returns:
        `Solution`, and where to differentiate `f`: at its value, or at `z_init`
        where the states did not stay finite.
    """

    def detached(z):
        return keras.tree.map_structure(ops.stop_gradient, f(z))

    z_init = keras.tree.map_structure(ops.stop_gradient, z_init)
    solution = solver.solve(detached, z_init)
    value = keras.tree.map_structure(ops.stop_gradient, solution.value)
    point = select(solution.status != NON_FINITE, value, z_init)
    return solution._replace(value=value), point
