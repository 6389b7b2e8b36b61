"""Promises as table rows, each with a hash of itself and all rows before it."""

import hashlib
import struct
import zlib

import numpy as np

from keras_smoothing.memory.geometry import LARGEST
from keras_smoothing.memory.kept import Promise


def to_row(before, number, x, promise):
    """Returns a promise as a stored row.

    Args:
        before: str, the chain of the row before, or `kept.START`.
        number: int, the number of the row.
        x: float32 array, shape `(dimensions,)`.
        promise: `Promise`.

    Returns:
        tuple of `id, x, prediction, radius, scale, scales, alpha, stddev,
        noise, chain`, ints, floats, bytes and strs. `scale` is the smallest
        of `scales`, which is None unless there is one scale per coordinate.
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
    return (*row, _chain(before, *row))


def from_rows(rows, last, before, dimensions):
    """Reads promises from stored rows.

    Args:
        rows: list of rows.
        last: int, the number of the row before the first one.
        before: str, the chain of that row.
        dimensions: int, the number of coordinates of a point.

    Returns:
        float32 array, shape `(rows, dimensions)`, a list of `Promise`, and the
        chain of the last row.

    Raises:
        ValueError: if a row is missing, or is not as it was written.
    """
    points = np.empty((len(rows), dimensions), np.float32)
    promises = []
    for i, row in enumerate(rows):
        *values, chain = row
        number, x, prediction, radius, scale, scales, *rest = values
        try:
            intact = (
                number == last + 1 + i
                and _chain(before, *values) == chain
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
        before = chain
    return points, promises, before


def chained(rows, last, before):
    """Returns rows of format 4 with chains in place of their checksums.

    Args:
        rows: list of rows.
        last: int, as in `from_rows`.
        before: str, as in `from_rows`.

    Raises:
        ValueError: if a row is missing, or is not as it was written.
    """
    new = []
    for i, (*values, checksum) in enumerate(rows, start=last + 1):
        number, x, prediction, radius, scale, scales, *rest, noise = values
        numbers = struct.pack(
            "<qqdddd", number, prediction, radius, scale, *rest
        )
        ours = zlib.crc32(noise.encode(), zlib.crc32(numbers))
        if number != i or zlib.crc32(scales or b"", zlib.crc32(x, ours)) != (
            checksum
        ):
            raise ValueError(
                f"The memory is damaged. Expected promise {i} as it was "
                f"written. Received: row {number}, changed or out of place."
            )
        before = _chain(before, *values)
        new.append((*values, before))
    return new


def _chain(
    before, number, x, prediction, radius, scale, scales, alpha, stddev, noise
):
    # Detects flipped bits, which would change what is promised.
    digest = hashlib.sha256(bytes.fromhex(before))
    digest.update(
        struct.pack("<qqdddd", number, prediction, radius, scale, alpha, stddev)
    )
    for part in (x, scales or b"", noise.encode()):
        digest.update(struct.pack("<q", len(part)))
        digest.update(part)
    return digest.hexdigest()
