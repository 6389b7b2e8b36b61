"""What a memory keeps: promises, and whose they are."""

import base64
import json
import zlib
from typing import NamedTuple

import numpy as np


class Promise(NamedTuple):
    """What is promised of a point: the class of all points around it.

    They are those at most `radius` away, in the norm of the memory. With one
    scale for each coordinate, a step along a coordinate counts `min(scale) /
    scale` of its length, so that the ball of the radius is the largest inside
    the ellipsoid that is promised.

    Attributes:
        prediction: int; `ks.ABSTAIN` (-1) where nothing is promised.
        radius: float >= 0, in input units; 0 promises the point alone.
        scale: float > 0, or float32 array of the shape of an example: what the
            noise of the certificate was multiplied by.
        alpha: float, the probability that the certificate is wrong.
        stddev: float > 0, the standard deviation of the noise that was
            multiplied.
        noise: str, that noise in words, such as "Gaussian(sigma=0.25)"; empty
            where it is not known.
    """

    prediction: int
    radius: float
    scale: float | np.ndarray
    alpha: float
    stddev: float = 1.0
    noise: str = ""


class Identity(NamedTuple):
    """Of which classifier promises are.

    Attributes:
        model: str, the fingerprint of the base model.
        norm: `"l1"` or `"l2"`.
        shape: tuple of ints, the shape of one example.
        symmetries: str, a hash of the rearrangements of an example that get the
            same answer; empty where there are none.
        voting: "hard" or "soft".
        serialized: str, the form of serialized smoothing whose votes are of
            another classifier than the base model as it is: "Exact", of the
            fixed point; or empty.
    """

    model: str
    norm: str
    shape: tuple
    symmetries: str
    voting: str = "hard"
    serialized: str = ""


class Budget(NamedTuple):
    """What the queries of a memory have spent, over its whole life.

    Attributes:
        total_alpha: float in (0, 1), of which each query gets its share; or
            None.
        num_queries: int, how many were counted.
        alpha_spent: float, the sum of their alphas.
    """

    total_alpha: float | None = None
    num_queries: int = 0
    alpha_spent: float = 0.0


# The chain before the first promise.
START = 64 * "0"


class Head(NamedTuple):
    """What a memory holds, in a few numbers.

    Attributes:
        num_promises: int.
        num_queries: int, how many were counted.
        chain: str, 64 hexadecimal digits: a hash of all promises, in their
            order.
    """

    num_promises: int = 0
    num_queries: int = 0
    chain: str = START


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
