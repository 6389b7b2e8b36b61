import functools

import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.base_model import advice_without_scores
from keras_smoothing.base_model import output_spec
from keras_smoothing.noise.noise import exact_sum
from keras_smoothing.sampling import ballots
from keras_smoothing.sampling.sampler import Sampler


class VoteSampler(Sampler):
    """Counts only the votes of forward passes, one for each draw.

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
        # one batch for the next. That saves a tenth of the time.
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
            if it differs between examples.
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


def vote_shares(sampler, x, num_draws, ballot, seed):
    """Shares of the votes among fresh draws, in a graph.

    Args:
        sampler: `Sampler`, whose noise and group elements are drawn.
        x: tensor, shape `(batch, ...)`, of floating type.
        num_draws: int.
        ballot: function from outputs to votes, one of those in `ballots`.
        seed: `keras.random.SeedGenerator`.

    Returns:
        float32 tensor, shape `(batch, classes)`, or `(batch, *components,
        classes)`.
    """
    noise = sampler.noise.sample((num_draws, *ops.shape(x)[1:]), seed)
    if sampler.group is not None:
        elements = sampler.group.sample(num_draws, x.shape[1:], seed)
    where = sampler.noise.where(x)
    forward = functools.partial(sampler.base_model, training=False)

    def add_draw(i, votes):
        copies = ops.expand_dims(x, 1)
        if sampler.group is not None:
            copies = sampler.group.orbit(x, elements[i : i + 1])
        drawn = noise[i : i + 1]
        if where is not None:
            drawn = ops.where(ops.expand_dims(where, 1), drawn, 0.0)
        more = count_votes(forward, copies, drawn, ballot)
        return votes + ops.cast(more, "float32")

    answers = np.atleast_1d(sampler.answers(tuple(x.shape[1:])))
    no_votes = ops.zeros((ops.shape(x)[0], *answers), "float32")
    votes = ops.fori_loop(0, num_draws, add_draw, no_votes)
    backend.refuse_python()
    return votes / num_draws


class ComponentSampler(VoteSampler):
    """Counts votes for the classes of each of several components.

    The outputs of the base model have shape `(batch, *components, classes)`.
    """

    def answers(self, shape):
        """The form of the base model's answers: `(*components, classes)`.

        Args:
            shape: tuple of ints or None, the shape of an example.

        Raises:
            ValueError: if the base model is not suitable for this sampler.
        """
        output = output_spec(self.base_model, shape)
        sizes = tuple(getattr(output, "shape", ()))[1:]
        if len(sizes) < 2 or (sizes[-1] or 0) < 2:
            raise ValueError(
                "Expected a base model with output shape (batch, height, "
                "width, classes), at least 2 classes. Received: output "
                f"{output}. `ks.SmoothedModel` is for one class of each "
                "example, `ks.SmoothedMultiLabel` for several labels."
                + advice_without_scores(output)
            )
        return sizes

    def padding(self, x):
        """The components that are padding: those that the base model masks.

        Args:
            x: float32 array, shape `(examples, ...)`.

        Returns:
            bool array, shape `(examples, *components)`; or False, of shape
            `()`, if no padding is known.
        """
        x = ops.convert_to_tensor(x)
        if self.noise.where(x) is None:
            return np.False_
        outputs = self.base_model(x, training=False)
        mask = getattr(outputs, "_keras_mask", None)
        return np.False_ if mask is None else ~np.array(mask)
