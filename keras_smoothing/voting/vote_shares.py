import functools

import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.voting.vote_counter import count_votes


def vote_shares(counter, x, num_draws, ballot, seed):
    """Shares of the votes among fresh draws, in a graph.

    Args:
        counter: `Counter`, whose noise and group are drawn.
        x: tensor, shape `(batch, ...)`, of floating type.
        num_draws: int.
        ballot: function from outputs to votes, one of those in `ballots`.
        seed: `keras.random.SeedGenerator`.

    Returns:
        float32 tensor, shape `(batch, classes)`, or `(batch, *components,
        classes)`.
    """
    noise = counter.noise.sample((num_draws, *ops.shape(x)[1:]), seed)
    if counter.group is not None:
        elements = counter.group.sample(num_draws, x.shape[1:], seed)
    where = counter.noise.where(x)
    forward = functools.partial(counter.base_model, training=False)

    def add_draw(i, votes):
        copies = ops.expand_dims(x, 1)
        if counter.group is not None:
            copies = counter.group.orbit(x, elements[i : i + 1])
        drawn = noise[i : i + 1]
        if where is not None:
            drawn = ops.where(ops.expand_dims(where, 1), drawn, 0.0)
        more = count_votes(forward, copies, drawn, ballot)
        return votes + ops.cast(more, "float32")

    answers = np.atleast_1d(counter.answers(tuple(x.shape[1:])))
    no_votes = ops.zeros((ops.shape(x)[0], *answers), "float32")
    votes = ops.fori_loop(0, num_draws, add_draw, no_votes)
    backend.refuse_python()
    return votes / num_draws
