"""Noise by number: the draw with index j is always the same.

Draws come in tiles, each from a seed of its own, so that any range of them is
found without drawing what comes before.
"""

import typing

import keras
import numpy as np
from keras import ops

# Streams of draws, independent of each other: what selects a class must not
# estimate its probability.
SELECTION, ESTIMATION, PREDICTION, PILOT, SEARCH = range(5)

_TILE_VALUES = 2**20


class Draws(typing.NamedTuple):
    """Consecutive draws.

    Attributes:
        noise: float32 tensor, shape `(draws, ...)`.
        tickets: float32 tensor, shape `(draws,)`, uniform in [0, 1): which
            class of its probabilities a soft vote is for.
        elements: int32 tensor, of the group, shape `(draws, points)`; or
            `(draws, 0)` without.
        coins: float32 tensor, shape `(draws,)`, uniform in [0, 1), independent
            of all the others: which draws are audited.
    """

    noise: typing.Any
    tickets: typing.Any
    elements: typing.Any
    coins: typing.Any


def tile_size(shape):
    """Draws in a tile: a power of two, about four megabytes of noise.

    It depends on the shape of an example and on nothing else, since the draws
    depend on it.
    """
    size = max(1, min(1024, _TILE_VALUES // max(1, int(np.prod(shape)))))
    return 1 << (size.bit_length() - 1)


def tile_seeds(seed, stream, first, last):
    """Hashed 62-bit seeds of tiles `first..last`: none shares a counter.

    Returns:
        int64 tensor, shape `(last - first, 2)`.
    """
    words = [
        np.random.SeedSequence(seed, spawn_key=(stream, tile)).generate_state(2)
        for tile in range(first, last)
    ]
    return ops.convert_to_tensor(np.array(words, "int64") & 0x7FFFFFFF)


def draw_tiles(seeds, shape, noise, group):
    """The draws of consecutive tiles.

    Args:
        seeds: int64 tensor of `tile_seeds`.
        shape: tuple, the shape of an example.
        noise: `keras_smoothing.noise.Noise`.
        group: `keras_smoothing.groups.Group` or None.

    Returns:
        `Draws`.
    """
    size = tile_size(shape)

    def draw_tile(seed):
        seed = _FixedSeed(seed)
        drawn = noise.sample((size, *shape), seed)
        tickets = keras.random.uniform((size,), seed=seed)
        elements = ops.zeros((size, 0), "int32")
        if group is not None:
            elements = group.sample(size, shape, seed)
        coins = keras.random.uniform((size,), seed=seed)
        return drawn, tickets, elements, coins

    # (tiles, draws, ...) to (tiles * draws, ...)
    return Draws(
        *(
            ops.reshape(drawn, (-1, *drawn.shape[2:]))
            for drawn in ops.map(draw_tile, seeds)
        )
    )


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
