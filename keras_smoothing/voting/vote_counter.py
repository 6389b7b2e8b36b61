import functools

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.statistics.votes import Votes
from keras_smoothing.voting import ballots
from keras_smoothing.voting import draws
from keras_smoothing.voting.counter import Counter


class VoteCounter(Counter):
    """Counts the votes of forward passes, one for each draw.

    The noise is drawn once for many examples: on a CPU, drawing it costs as
    much as a small network's forward pass. The base model is called with
    `training=False`. It finds votes and nothing else.
    """

    def __init__(self, base_model, noise, voting="hard", group=None):
        super().__init__(base_model, noise, voting, group)
        self._count_block = backend.compile(self._block_votes)

    def count(
        self,
        x,
        *,
        scale=1.0,
        seed,
        stream,
        start,
        stop,
        batch_size,
        on_draws=None,
    ):
        num_samples = np.full(len(x), stop - start)
        x = ops.convert_to_tensor(x, dtype="float32")
        shape = tuple(x.shape[1:])
        scale = self._scale_tensor(scale, x.shape)
        tile = draws.tile_size(shape)
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
                scale,
                draws.tile_seeds(seed, stream, first // tile, -(-end // tile)),
                ops.convert_to_tensor(start - first),
                ops.convert_to_tensor(end - first),
                ops.convert_to_tensor(-(-(end - start) // batches)),
            )
            votes = votes + ops.convert_to_numpy(counts).astype(np.int64)
            if on_draws is not None:
                on_draws(end - start)
            start = end
        return Votes(votes, num_samples)

    def _scale_tensor(self, scale, shape):
        """Scales as `(examples, 1, ...)`, or None where all of them are 1."""
        scale = np.asarray(scale, "float32")
        if np.all(scale == 1):
            return None
        if scale.ndim > 1 and self.group is not None:
            raise ValueError(
                "Expected one scale for each example under a group, whose "
                "elements move coordinates. Received: scales of shape "
                f"{scale.shape}"
            )
        if scale.ndim <= 1:
            scale = scale.reshape((-1,) + (1,) * (len(shape) - 1))
        scale = np.broadcast_to(scale, (shape[0], *scale.shape[1:]))
        return ops.convert_to_tensor(np.expand_dims(scale, 1))

    def _block_votes(
        self, shape, x, scale, tile_seeds, start, stop, draws_per_batch
    ):
        x = ops.reshape(x, (-1, *shape))
        noise, tickets, elements = draws.draw_tiles(
            tile_seeds, shape, self.noise, self.group
        )

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
            moves = noise[low:high]
            if scale is not None:
                moves = scale * moves
            return high, votes + count_votes(
                self.forward, copies, moves, ballot
            )

        # A loop inside the graph, rather than around it, reuses the memory of
        # one batch for the next; that is worth a tenth of the time.
        classes = num_classes(self.base_model, shape)
        no_votes = ops.zeros((ops.shape(x)[0], classes), "int32")
        return ops.while_loop(
            lambda low, votes: low < stop, count_batch, (start, no_votes)
        )[1]


def count_votes(forward, copies, noise, ballot):
    """Votes of a base model on every example with every noise.

    Args:
        forward: function from noisy inputs to the outputs of the base model.
        copies: tensor, shape `(examples, draws or 1, ...)`.
        noise: float32 tensor, shape `(draws, ...)`, or `(examples, draws, ...)`
            where it differs from example to example.
        ballot: function from outputs `(examples, draws, classes)` to votes of
            the same shape, one of those in `ballots`.

    Returns:
        tensor of the ballot's dtype, shape `(examples, classes)`.
    """
    noisy = copies + noise
    grid = tuple(ops.shape(noisy)[:2])
    noisy = ops.reshape(noisy, (-1, *copies.shape[2:]))
    outputs = forward(noisy)
    outputs = ops.reshape(outputs, (*grid, outputs.shape[-1]))
    return ops.sum(ballot(outputs), axis=1)


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
