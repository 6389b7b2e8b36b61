"""Gradient ascent within bounds, in a graph."""

from keras import ops

from keras_smoothing import backend

_SETTLED = 1e-3


def geometric_mean(x):
    """Returns the geometric mean of a tensor whose product may underflow."""
    return ops.exp(ops.mean(ops.log(x)))


def plain(learning_rate):
    """Returns the update rule of plain gradient ascent, for `ascend`."""

    def rule(gradient, state, step):
        return learning_rate * gradient, state

    return rule, ()


def adam(learning_rate, shape):
    """Returns the update rule of Adam with its usual constants, for `ascend`.

    Keras's Adam keeps its moments in variables, which a loop over examples in
    a graph cannot create.

    Reference:
    - [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980)
    """

    def rule(gradient, state, step):
        mean, square = state
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * ops.square(gradient)
        unbiased_mean = mean / (1 - 0.9**step)
        unbiased_square = square / (1 - 0.999**step)
        move = unbiased_mean / (ops.sqrt(unbiased_square) + 1e-8)
        return learning_rate * move, (mean, square)

    zeros = ops.zeros(shape, "float32")
    return rule, (zeros, zeros)


def ascend(value, start, rule, state, *, low, high, steps):
    """Returns the best point on a path of gradient ascent.

    The path ends early if a step moves no coordinate by more than a
    thousandth: further gains would be negligible beside the noise of `value`.

    Args:
        value: function from a float32 tensor to a scalar.
        start: float32 tensor of any shape, within the bounds, > 0.
        rule: function from a gradient, its state and the step number (a float
            tensor, counted from 1) to a move and the next state.
        state: the initial state, a structure of tensors.
        low: float or tensor that broadcasts with `start`.
        high: As `low`.
        steps: int >= 0.

    Returns:
        best: float32 tensor, the point with the largest value.
        points: float32 tensor, shape `(steps + 1,)`: the geometric mean of each
            point of the path; the last one is repeated.
        values: float32 tensor of the same shape.
    """

    def is_moving(i, moves, *_):
        return ops.logical_and(i <= steps, moves)

    def step(i, _, point, state, best, points, values):
        gradient, here = backend.input_gradient(
            lambda point: (value(point),) * 2, point, has_aux=True
        )
        best = ops.where(here > ops.max(values), point, best)
        mean = geometric_mean(point)
        # Fills all later entries, too, in case the path ends here.
        points = ops.where(numbers >= i, mean, points)
        values = ops.where(numbers >= i, here, values)
        move, state = rule(gradient, state, ops.cast(i + 1, "float32"))
        new = ops.clip(point + move, low, high)
        moves = ops.any(ops.abs(new - point) > _SETTLED * point)
        return i + 1, moves, new, state, best, points, values

    numbers = ops.arange(steps + 1, dtype="int32")
    path = ops.zeros((steps + 1,), "float32")
    _, _, _, _, best, points, values = ops.while_loop(
        is_moving,
        step,
        (0, True, start, state, start, path, path - float("inf")),
    )
    return best, points, values
