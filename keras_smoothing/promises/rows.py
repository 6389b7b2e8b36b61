"""Promises as rows of a table."""

import struct
import zlib

import numpy as np

from keras_smoothing.promises.geometry import LARGEST
from keras_smoothing.promises.promise import Promise


def to_row(number, x, promise):
    """A promise as it is stored.

    Args:
        number: int, of the row.
        x: float32 array, shape `(dimensions,)`.
        promise: `Promise`.

    Returns:
        tuple of `id, x, prediction, radius, scale, scales, alpha, stddev,
        noise, checksum`, ints, floats, bytes and a str. `scale` is the smallest
        of `scales`, which is None unless there is one for each coordinate.
    """
    scales = None
    if np.ndim(promise.scale):
        scales = promise.scale.astype("<f4").tobytes()
    row = (
        number,
        x.astype("<f4").tobytes(),
        promise.prediction,
        promise.radius,
        float(np.min(promise.scale)),
        scales,
        promise.alpha,
        promise.stddev,
        promise.noise,
    )
    return (*row, _checksum(*row))


def from_rows(rows, last, dimensions):
    """Promises as they were stored.

    Args:
        rows: list of rows.
        last: int, the number before that of the first row.
        dimensions: int, of a point.

    Returns:
        float32 array, shape `(rows, dimensions)`, and a list of `Promise`.

    Raises:
        ValueError: if a row is missing, or is not as it was written.
    """
    points = np.empty((len(rows), dimensions), np.float32)
    promises = []
    for i, row in enumerate(rows):
        *values, checksum = row
        number, x, prediction, radius, scale, scales, *rest = values
        try:
            intact = (
                number == last + 1 + i
                and _checksum(*values) == checksum
                and 0 <= radius < LARGEST
            )
            points[i] = np.frombuffer(x, "<f4")
            if scales is not None:
                scale = np.frombuffer(scales, "<f4").astype(np.float32)
        except (AttributeError, TypeError, ValueError, struct.error):
            intact = False
        if not intact:
            raise ValueError(
                f"The memory is damaged. Expected promise {last + 1 + i} as it "
                f"was written. Received: row {number}, changed or out of place."
            )
        promises.append(Promise(prediction, radius, scale, *rest))
    return points, promises


def _checksum(
    number, x, prediction, radius, scale, scales, alpha, stddev, noise
):
    # A bit that flips in a file of balls makes other promises of them.
    numbers = struct.pack(
        "<qqdddd", number, prediction, radius, scale, alpha, stddev
    )
    checksum = zlib.crc32(noise.encode(), zlib.crc32(numbers))
    return zlib.crc32(scales or b"", zlib.crc32(x, checksum))
