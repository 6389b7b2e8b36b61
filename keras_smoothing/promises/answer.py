import base64
import json
import zlib
from typing import NamedTuple

import numpy as np

from keras_smoothing.promises.head import Head
from keras_smoothing.promises.promise import Promise


class Answer(NamedTuple):
    """What a run with a log was told of an example.

    A memory keeps it, so that a run that is resumed is told the same.

    Attributes:
        drawn: bool, whether noise was drawn for the example.
        alpha: float, at which it was counted; None where it was not.
        promise: `Promise` that it was answered with; None where it was counted,
            and not answered yet.
        memory_alpha: float, what queries of the memory had spent by then.
        memory_head: `Head` of the memory at that time.
    """

    drawn: bool
    alpha: float | None = None
    promise: Promise | None = None
    memory_alpha: float | None = None
    memory_head: Head | None = None


def to_row(query, answer):
    """An answer as it is stored: the query, a text, and its checksum."""
    promise = answer.promise
    if promise is not None and np.ndim(promise.scale):
        scales = base64.b64encode(promise.scale.astype("<f4").tobytes())
        promise = promise._replace(scale=scales.decode())
    text = json.dumps(answer._replace(promise=promise))
    return query, text, _checksum(query, text)


def from_row(row, shape):
    """A query and its `Answer`, as they were stored.

    Args:
        row: tuple of the query, a text, and its checksum.
        shape: tuple of ints, the shape of one example.

    Raises:
        ValueError: if they are not as they were written.
    """
    query, text, checksum = row
    if _checksum(query, text) != checksum:
        raise ValueError(
            "The memory is damaged. Expected the answers to a run as they were "
            f"written. Received: others, to the query {query}"
        )
    drawn, alpha, promise, memory_alpha, head = json.loads(text)
    if promise is not None:
        promise = Promise(*promise)
        if isinstance(promise.scale, str):
            scales = np.frombuffer(base64.b64decode(promise.scale), "<f4")
            scales = scales.astype(np.float32).reshape(shape)
            promise = promise._replace(scale=scales)
        head = Head(*head)
    return query, Answer(drawn, alpha, promise, memory_alpha, head)


def _checksum(query, text):
    return zlib.crc32(f"{query} {text}".encode())
