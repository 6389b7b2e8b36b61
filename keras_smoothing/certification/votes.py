"""Votes of the base classifier under noise."""

import functools

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certification import ballots

# Streams of draws, independent of each other: what selects a class must not
# estimate its probability.
SELECTION, ESTIMATION, PREDICTION = range(3)

_TILE_VALUES = 2**20


class VoteCounter:
    """Counts the votes of a base classifier on noisy copies of examples.

    The draw with index j is a function of (seed, stream, j) and of the shape
    of an example, and all examples share it. Counts therefore do not depend on
    how examples are ordered, batched or spread over calls, and the noise is
    drawn once for many examples: on a CPU, drawing it costs as much as a small
    network's forward pass.

    Draws come in tiles, each from a seed of its own, so that any range of them
    is found without drawing what comes before.

    Args:
        base_model: Keras model from `(batch, ...)` to `(batch, classes)`,
            logits or probabilities. It is called with `training=False`.
        noise: `keras_smoothing.noise.Noise`.
        voting: "hard", each draw votes for its largest output; or "soft", it
            votes for a class sampled from its outputs, which are
            probabilities. The share of a class then has the mean of its
            probabilities as its expectation, and is binomial all the same.
        group: `keras_smoothing.groups.Group`, of which each draw applies a
            random element to the example; or None.
    """

    def __init__(self, base_model, noise, voting="hard", group=None):
        self.base_model = base_model
        self.noise = noise
        self.voting = voting
        self.group = group
        self._count_block = backend.compile(self._block_votes)

    def count(self, x, *, seed, stream, start, stop, batch_size, on_draws=None):
        """Votes of the draws `start..stop` for each example.

        Args:
            x: float32 array, shape `(examples, ...)`.
            seed: int >= 0, the root of all streams.
            stream: int, `SELECTION`, `ESTIMATION` or `PREDICTION`.
            start: int, index of the first draw.
            stop: int, index after the last draw.
            batch_size: int, noisy copies in one forward pass, at least one
                for each example.
            on_draws: called with the number of draws, per example, whenever
                some have been counted.

        Returns:
            int64 array, shape `(examples, classes)`. A draw whose output has a
            NaN votes for no class, so a row may sum to less than
            `stop - start`.
        """
        x = ops.convert_to_tensor(x, dtype="float32")
        shape = tuple(x.shape[1:])
        tile = _tile_size(shape)
        draws_per_batch = max(1, batch_size // len(x))
        # Whole tiles: enough for one batch, and four for one call's overhead.
        block = max(4, -(-draws_per_batch // tile)) * tile
        votes = 0
        while start < stop:
            first = start // block * block
            end = min(stop, first + block)
            # Split evenly, so that all batches of a block are equally full.
            batches = -(-(end - start) // draws_per_batch)
            counts = self._count_block(
                shape,
                x,
                _tile_seeds(seed, stream, first // tile, -(-end // tile)),
                ops.convert_to_tensor(start - first),
                ops.convert_to_tensor(end - first),
                ops.convert_to_tensor(-(-(end - start) // batches)),
            )
            votes = votes + ops.convert_to_numpy(counts).astype(np.int64)
            if on_draws is not None:
                on_draws(end - start)
            start = end
        return votes

    def _block_votes(self, shape, x, tile_seeds, start, stop, draws_per_batch):
        x = ops.reshape(x, (-1, *shape))
        noise, tickets, elements = self._draw(tile_seeds, shape)

        def count_batch(low, votes):
            high = ops.minimum(low + draws_per_batch, stop)
            ballot = ballots.hard
            if self.voting == "soft":
                ballot = functools.partial(
                    ballots.sampled, tickets=tickets[low:high]
                )
            copies = ops.expand_dims(x, 1)
            if self.group is not None:
                copies = self.group.orbit(x, elements[low:high])
            return high, votes + count_votes(
                self.base_model, copies, noise[low:high], ballot
            )

        # A loop inside the graph, rather than around it, reuses the memory of
        # one batch for the next; that is worth a tenth of the time.
        classes = num_classes(self.base_model, shape)
        no_votes = ops.zeros((ops.shape(x)[0], classes), "int32")
        return ops.while_loop(
            lambda low, votes: low < stop, count_batch, (start, no_votes)
        )[1]

    def _draw(self, tile_seeds, shape):
        """The draws of consecutive tiles.

        Returns:
            noise: `(draws, *shape)`.
            tickets: `(draws,)`, uniform in [0, 1).
            elements: of the group, `(draws, points)`; `(draws, 0)` without.
        """
        size = _tile_size(shape)

        def draw_tile(seed):
            seed = _FixedSeed(seed)
            noise = self.noise.sample((size, *shape), seed)
            tickets = keras.random.uniform((size,), seed=seed)
            if self.group is None:
                return noise, tickets, ops.zeros((size, 0), "int32")
            return noise, tickets, self.group.sample(size, shape, seed)

        # (tiles, draws, ...) to (tiles * draws, ...)
        return [
            ops.reshape(drawn, (-1, *drawn.shape[2:]))
            for drawn in ops.map(draw_tile, tile_seeds)
        ]


def count_votes(base_model, copies, noise, ballot):
    """Votes of `base_model` on every example with every noise.

    Args:
        base_model: as in `VoteCounter`.
        copies: tensor, shape `(examples, draws or 1, ...)`.
        noise: float32 tensor, shape `(draws, ...)`.
        ballot: function from outputs `(examples, draws, classes)` to votes of
            the same shape, one of those in `ballots`.

    Returns:
        tensor of the ballot's dtype, shape `(examples, classes)`.
    """
    noisy = ops.reshape(copies + noise, (-1, *copies.shape[2:]))
    outputs = base_model(noisy, training=False)
    grid = (ops.shape(copies)[0], ops.shape(noise)[0], outputs.shape[-1])
    return ops.sum(ballot(ops.reshape(outputs, grid)), axis=1)


def num_classes(base_model, shape):
    """Classes of a model for examples of a shape.

    Raises:
        ValueError: unless the model's output is `(batch, classes)`.
    """
    example = keras.KerasTensor((None, *shape), dtype="float32")
    output = base_model.compute_output_spec(example)
    output_shape = getattr(output, "shape", ())
    if len(output_shape) != 2 or (output_shape[1] or 0) < 2:
        raise ValueError(
            "Expected a base model with output shape (batch, classes), at "
            f"least 2 classes. Received: output {output}"
        )
    return output_shape[1]


class _FixedSeed(keras.random.SeedGenerator):
    """A seed generator over a given value, with no variable behind it.

    Noise drawn with it is a pure function of the value, also where several
    threads count at once.
    """

    def __init__(self, state):
        self.state = state

    def next(self, ordered=True):
        seed = self.state
        self.state = seed + ops.convert_to_tensor([0, 1], dtype=seed.dtype)
        return seed


def _tile_size(shape):
    """Draws in a tile: a power of two, about four megabytes of noise.

    It depends on the shape of an example and on nothing else, since the draws
    depend on it.
    """
    size = max(1, min(1024, _TILE_VALUES // max(1, int(np.prod(shape)))))
    return 1 << (size.bit_length() - 1)


def _tile_seeds(seed, stream, first, last):
    """Hashed 62-bit seeds of tiles `first..last`: none shares a counter."""
    words = [
        np.random.SeedSequence(seed, spawn_key=(stream, tile)).generate_state(2)
        for tile in range(first, last)
    ]
    return ops.convert_to_tensor(np.array(words, "int64") & 0x7FFFFFFF)
