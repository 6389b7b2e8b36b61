"""Tiles of numbered draws, and their seeds. NumPy only."""

import numpy as np

# Independent streams of draws: draws that select a class must not estimate its
# probability.
SELECTION, ESTIMATION, PREDICTION, PILOT, SEARCH = range(5)

_TILE_VALUES = 2**20


def tile_size(shape):
    """Draws in a tile: a power of two, about four megabytes of noise.

    It depends only on the shape of an example, since the draws depend on it.
    """
    size = max(1, min(1024, _TILE_VALUES // max(1, int(np.prod(shape)))))
    return 1 << (size.bit_length() - 1)


def tile_seeds(seed, stream, first, last):
    """Hashed 62-bit seeds of tiles `first..last`; no two share a counter.

    Returns:
        int64 array, shape `(last - first, 2)`.
    """
    words = [
        np.random.SeedSequence(seed, spawn_key=(stream, tile)).generate_state(2)
        for tile in range(first, last)
    ]
    return np.array(words, "int64") & 0x7FFFFFFF
