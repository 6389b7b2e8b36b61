"""Gradient ascent inside bounds, in a graph."""

from keras import ops

from keras_smoothing import backend


def plain(learning_rate):
    """The rule of plain gradient ascent, for `ascend`."""

    def rule(gradient, state, step):
        return learning_rate * gradient, state

    return rule, ()


def adam(learning_rate, shape):
    """The rule of Adam with its usual constants, for `ascend`.

    Keras's own keeps its moments in variables, which a loop over examples in a
    graph cannot have.

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

    return rule, (ops.zeros(shape), ops.zeros(shape))


def ascend(value, start, rule, state, *, low, high, steps):
    """The best point on a path of gradient ascent.

    Args:
        value: function from a float32 tensor to a scalar.
        start: float32 tensor of any shape, inside the bounds.
        rule: function from a gradient, its state and the number of the step,
            a float tensor that counts from 1, to a move and the next state.
        state: the first state, a structure of tensors.
        low: float or tensor that broadcasts with `start`.
        high: likewise.
        steps: int >= 0.

    Returns:
        best: float32 tensor, the point of the largest value.
        points: float32 tensor, shape `(steps + 1,)`: the geometric mean of each
            point of the path.
        values: float32 tensor of that shape.
    """

    def step(i, carry):
        point, state, best, points, values = carry
        gradient, here = backend.input_gradient(
            lambda point: (value(point),) * 2, point, has_aux=True
        )
        best = ops.where(here > ops.max(values), point, best)
        mean = ops.exp(ops.mean(ops.log(point)))
        points = ops.slice_update(points, [i], ops.reshape(mean, (1,)))
        values = ops.slice_update(values, [i], ops.reshape(here, (1,)))
        move, state = rule(gradient, state, ops.cast(i + 1, "float32"))
        return ops.clip(point + move, low, high), state, best, points, values

    points = ops.zeros((steps + 1,))
    values = ops.full((steps + 1,), -float("inf"), "float32")
    _, _, best, points, values = ops.fori_loop(
        0, steps + 1, step, (start, state, start, points, values)
    )
    return best, points, values
