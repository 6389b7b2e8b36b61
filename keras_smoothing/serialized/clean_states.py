from keras import ops

from keras_smoothing.equilibrium.state import select


def clean_states(copies):
    """The states of the clean examples, where noisy copies may start.

    Args:
        copies: `NoisyCopies`.

    Returns:
        tensor, shape `(examples, ...)`, or a structure of such: what the
        solver of the layer finds; what it starts from, where that diverges.
    """
    layer = copies.parts.layer
    zero = layer._init_state(copies.parts.before(copies.x, training=False))
    solution = layer.solver.solve(copies.clean_function(), zero)
    return select(ops.isfinite(solution.residual), solution.value, zero)
