"""Numbered draws of noise: the draw with index j is always the same.

Draws come in tiles, each from a seed of its own. So any range of draws can be
made without those before it.
"""

import typing

import keras
from keras import ops

from keras_smoothing.certificates.tiles import tile_size


class Draws(typing.NamedTuple):
    """Consecutive draws.

    Attributes:
        noise: float32 tensor, shape `(draws, ...)`.
        tickets: float32 tensor, shape `(draws,)`, uniform in [0, 1): they
            sample the class of a soft vote from its probabilities.
        elements: int32 tensor, shape `(draws, points)`, elements of the group;
            or `(draws, 0)` without a group.
        coins: float32 tensor, shape `(draws,)`, uniform in [0, 1), independent
            of all the others: they decide which draws are audited.
    """

    noise: typing.Any
    tickets: typing.Any
    elements: typing.Any
    coins: typing.Any


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
        seed = FixedSeed(seed)
        drawn = noise.checked_sample((size, *shape), seed)
        tickets = _uniform(size, seed)
        elements = ops.zeros((size, 0), "int32")
        if group is not None:
            elements = group.sample(size, shape, seed)
        coins = _uniform(size, seed)
        return drawn, tickets, elements, coins

    # (tiles, draws, ...) to (tiles * draws, ...)
    return Draws(
        *(
            ops.reshape(drawn, (-1, *drawn.shape[2:]))
            for drawn in ops.map(draw_tile, seeds)
        )
    )


def _uniform(size, seed):
    return keras.random.uniform((size,), dtype="float32", seed=seed)


class FixedSeed(keras.random.SeedGenerator):
    """A seed generator that starts at a given value and has no variable.

    Noise drawn with it is a pure function of the value, even if several threads
    count at once.
    """

    def __init__(self, state):
        self.state = state

    def next(self, ordered=True):
        seed = self.state
        self.state = seed + ops.convert_to_tensor([0, 1], dtype=seed.dtype)
        return seed
