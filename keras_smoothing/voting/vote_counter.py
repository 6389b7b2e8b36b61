import functools

import numpy as np
from keras import ops

from keras_smoothing.noise.noise import exact_sum
from keras_smoothing.voting import ballots
from keras_smoothing.voting.counter import Counter


class VoteCounter(Counter):
    """Counts the votes of forward passes, one for each draw, and no more.

    The base model is called with `training=False`.
    """

    def find(self, x, scale, drawn, start, stop, draws_per_batch):
        def count_batch(low, votes):
            high = ops.minimum(low + draws_per_batch, stop)
            ballot = ballots.hard
            if self.voting == "soft":
                ballot = functools.partial(
                    ballots.sampled, tickets=drawn.tickets[low:high]
                )
            copies = ops.expand_dims(x, 1)
            if self.group is not None:
                copies = self.group.orbit(x, drawn.elements[low:high])
            noise = drawn.noise[low:high]
            if scale is not None:
                noise = scale * noise
            return high, votes + count_votes(
                self.forward, copies, noise, ballot
            )

        # A loop inside the graph, rather than around it, reuses the memory of
        # one batch for the next; that is worth a tenth of the time.
        answers = np.atleast_1d(self.answers(tuple(x.shape[1:])))
        no_votes = ops.zeros((ops.shape(x)[0], *answers), "int32")
        _, votes = ops.while_loop(
            lambda low, votes: low < stop, count_batch, (start, no_votes)
        )
        return {"counts": votes}


def count_votes(forward, copies, noise, ballot):
    """Votes of a base model on every example with every noise.

    Args:
        forward: function from noisy inputs to the outputs of the base model.
        copies: tensor, shape `(examples, draws or 1, ...)`.
        noise: float32 tensor, shape `(draws, ...)`, or `(examples, draws, ...)`
            where it differs from example to example.
        ballot: function from outputs `(examples, draws, ..., classes)` to votes
            of the same shape, one of those in `ballots`.

    Returns:
        tensor of the ballot's dtype, shape `(examples, ..., classes)`.
    """
    noisy = exact_sum(copies, noise)
    grid = tuple(ops.shape(noisy)[:2])
    noisy = ops.reshape(noisy, (-1, *copies.shape[2:]))
    outputs = forward(noisy)
    outputs = ops.reshape(outputs, (*grid, *outputs.shape[1:]))
    return ops.sum(ballot(outputs), axis=1)
