import abc
import functools

import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.base_model.outputs import num_classes
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes
from keras_smoothing.certificates import tiles
from keras_smoothing.sampling import noise_blocks
from keras_smoothing.utils import Rebuilt


class Sampler(Rebuilt, abc.ABC):
    """Draws noise and counts votes. Base class.

    Draw number j adds noise number j, times the scale of the example. That
    noise is a function of (seed, stream, j) and of the shape of an example. All
    examples share it, since on a CPU drawing it costs as much as a small
    network's forward pass. The findings in a range of draws do not depend on
    how examples are ordered, batched or spread over calls.

    A subclass implements `find`, which computes the findings in the draws of a
    block.

    Attributes:
        base_model: Keras model from `(batch, ...)` to `(batch, classes)`.
        forward: function from inputs `(batch, ...)` to the outputs of the base
            model at inference, compiled unless the model calls Python.
        noise: `keras_smoothing.noise.Noise`.
        voting: "hard", each draw votes for its largest output; or "soft", it
            votes for a class sampled from its outputs, which must be
            probabilities. The expected share of a class is then the mean of its
            probabilities, and its votes are still binomial.
        group: `keras_smoothing.groups.Group`; each draw applies a random
            element of it to the example. Or None.
        finds_own_votes: bool. True if votes equal the base model's predictions;
            False if they may differ and are audited.
        serialized: str, the form of serialized smoothing, if its votes are of
            another classifier than the unchanged base model; else empty.
        findings: dict from the names of the other findings of `find` to whether
            they are counted for each class.
    """

    finds_own_votes = True
    serialized = ""
    findings = {}

    def __init__(self, base_model, noise, voting="hard", group=None):
        self.base_model = base_model
        self.forward = backend.ModelGraph(base_model)
        self.noise = noise
        self.voting = voting
        self.group = group
        self._draw = backend.compile(noise_blocks.draw_tiles)
        self._find_in_block = functools.cache(self._graph_of_block)

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
        """Counts the votes of the draws `start..stop`, for each example.

        Args:
            x: float32 array, shape `(examples, ...)`.
            scale: float, or float array of shape `(examples,)` or of the shape
                of `x`: the factor of the noise.
            seed: int >= 0, the root of all streams.
            stream: int, one of those in `tiles`.
            start: int, index of the first draw.
            stop: int, index after the last draw.
            batch_size: int, noisy copies in one forward pass; each has at least
                one for each example.
            on_draws: function, called with the number of draws per example
                whenever some have been counted.

        Returns:
            `keras_smoothing.certificates.Votes`.
        """
        found = {}
        for in_block in self.blocks(
            x,
            scale=scale,
            seed=seed,
            stream=stream,
            start=start,
            stop=stop,
            batch_size=batch_size,
            on_draws=on_draws,
        ):
            for name, array in in_block.items():
                found[name] = found.get(name, 0) + array.astype(np.int64)
        num_samples = np.full(len(x), stop - start)
        return Votes(found.pop("counts"), num_samples, found)

    def blocks(
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
        """The findings of `find` in the draws `start..stop`, block by block.

        The arguments are those of `count`.

        Yields:
            dict of arrays, for consecutive draws.
        """
        x = ops.convert_to_tensor(x, dtype="float32")
        shape = tuple(x.shape[1:])
        scale = self._scale_tensor(scale, x.shape)
        tile = tiles.tile_size(shape)
        draws_per_batch = int(_draws_per_batch(batch_size, len(x)))
        block = int(_tiles_per_block(draws_per_batch, tile)) * tile
        while start < stop:
            first = start // block * block
            end = min(stop, first + block)
            seeds = tiles.tile_seeds(
                seed, stream, first // tile, -(-end // tile)
            )
            scales = () if scale is None else (scale,)
            find = self._find_in_block(shape, *(s.shape[1:] for s in scales))
            numbers = (start - first, end - first, draws_per_batch)
            found = find(
                x,
                ops.convert_to_tensor(seeds),
                *(ops.convert_to_tensor(n, "int32") for n in numbers),
                *scales,
            )
            yield {
                name: ops.convert_to_numpy(tensor)
                for name, tensor in found.items()
            }
            if on_draws is not None:
                on_draws(end - start)
            start = end

    def count_tiles(self, x, seeds, stop, batch_size):
        """Like `count`, in a graph: the votes of the draws `0..stop` of tiles.

        Args:
            x: float32 tensor, shape `(examples, ...)`, known except for the
                number of examples, which is at least one.
            seeds: int64 tensor, shape `(tiles, 2)`, as from `tiles.tile_seeds`.
            stop: int32 tensor, at most the number of draws in all tiles.
            batch_size: int32 tensor, as in `count`.

        Returns:
            int32 tensor, shape `(examples, classes)`.
        """
        shape = tuple(x.shape[1:])
        tile = tiles.tile_size(shape)
        draws_per_batch = _draws_per_batch(batch_size, ops.shape(x)[0])
        in_block = _tiles_per_block(draws_per_batch, tile)

        def count_block(first, counts):
            last = ops.minimum(first + in_block, -(-stop // tile))
            found = self._block(
                shape,
                x,
                seeds[first:last],
                ops.zeros((), "int32"),
                ops.minimum(stop, last * tile) - first * tile,
                draws_per_batch,
            )
            return last, counts + found["counts"]

        classes = num_classes(self.base_model, shape)
        _, counts = ops.while_loop(
            lambda first, counts: first * tile < stop,
            count_block,
            (0, ops.zeros((ops.shape(x)[0], classes), "int32")),
        )
        return counts

    def answers(self, shape):
        """The form of the base model's answers: the number of classes.

        Args:
            shape: tuple of ints or None, the shape of an example.

        Raises:
            ValueError: if the base model is not suitable for this sampler.
        """
        return num_classes(self.base_model, shape)

    def no_votes(self, num_examples, num_classes):
        """The `Votes` before any draw."""
        by_example = np.zeros(num_examples, np.int64)
        by_class = np.zeros((num_examples, num_classes), np.int64)
        return Votes(
            by_class,
            by_example,
            {
                name: by_class if is_by_class else by_example
                for name, is_by_class in self.findings.items()
            },
        )

    def claim(self, alpha, stopping, top_k=1):
        """The `Claim` that the findings of this sampler prove."""
        return Claim(self.noise, alpha, stopping, top_k, self.group)

    def call_in_words(self, *arguments):
        """The call of the classifier that the votes belong to.

        Args:
            *arguments: str, arguments of the call.

        Returns:
            str.
        """
        if self.serialized:
            arguments = (f"serialized={self.serialized}()", *arguments)
        call = f"`model.classify({', '.join(('x', *arguments))})`"
        return f"{call}, by mean probability" if self.voting == "soft" else call

    def tuned(self, x, claim):
        """This sampler, or one tuned to the claim and the examples at hand.

        Args:
            x: float32 array, shape `(examples, ...)`: the first examples.
            claim: `Claim` of this sampler.

        Returns:
            `Sampler`.
        """
        return self

    def get_config(self):
        """All settings that certificates depend on, for JSON."""
        return {"voting": self.voting}

    @abc.abstractmethod
    def find(self, x, scale, drawn, start, stop, draws_per_batch):
        """Computes the findings in some draws of a block, in a graph.

        Args:
            x: float32 tensor, shape `(examples, ...)`.
            scale: float32 tensor, shape `(examples, 1, ...)`, or None for 1.
            drawn: `noise_blocks.Draws` of the block.
            start: int tensor, index of the first draw in the block.
            stop: int tensor, index after the last draw.
            draws_per_batch: int tensor, the draws that fill one forward pass.

        Returns:
            dict of tensors. `count` needs int tensors, shape `(examples,
            classes)` or `(examples,)`: "counts", the votes, and the findings of
            the sampler.
        """

    def _graph_of_block(self, shape, scale_shape=None):
        """One graph for each shape of an example and of its scale."""
        number = (), "int32"
        inputs = [((None, *shape), "float32"), ((None, 2), "int64")]
        inputs += [number, number, number]
        if scale_shape is not None:
            inputs.append(((None, *scale_shape), "float32"))
        return backend.compile(functools.partial(self._block, shape), inputs)

    def _block(self, shape, x, seeds, start, stop, draws_per_batch, scale=None):
        x = ops.reshape(x, (-1, *shape))
        where = self.noise.where(x)
        if where is not None:
            where = ops.cast(ops.expand_dims(where, 1), "float32")
            scale = where if scale is None else scale * where
        drawn = self._draw(seeds, shape, self.noise, self.group)
        # Split evenly, so that all batches of a block are equally full.
        batches = -(-(stop - start) // draws_per_batch)
        draws_per_batch = -(-(stop - start) // batches)
        return self.find(x, scale, drawn, start, stop, draws_per_batch)

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


def _draws_per_batch(batch_size, examples):
    return ops.maximum(1, ops.cast(batch_size // examples, "int32"))


def _tiles_per_block(draws_per_batch, tile):
    """Tiles enough for one batch, and at least four per call, for overhead."""
    return ops.maximum(4, ops.cast(-(-draws_per_batch // tile), "int32"))
