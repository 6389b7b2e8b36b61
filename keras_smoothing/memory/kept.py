"""Records that a memory keeps: promises, and the classifier they are about."""

import base64
import json
import zlib
from typing import NamedTuple

import numpy as np


class Promise(NamedTuple):
    """The promise about a point: the class of all points around it.

    It covers the points at most `radius` away, in the norm of the memory. With
    one scale per coordinate, a step along a coordinate counts `min(scale) /
    scale` of its length: the ball with that radius is the largest inside the
    promised ellipsoid.

    Attributes:
        prediction: int; `ks.ABSTAIN` (-1) if nothing is promised.
        radius: float >= 0, in input units; 0 promises the point alone.
        scale: float > 0, or float32 array of the shape of an example: the
            factor that the certificate's noise was multiplied by.
        alpha: float, the probability that the certificate is wrong.
        stddev: float > 0, the standard deviation of the noise before it was
            scaled.
        noise: str, a description of that noise, such as
            "Gaussian(sigma=0.25)"; empty if unknown.
    """

    prediction: int
    radius: float
    scale: float | np.ndarray
    alpha: float
    stddev: float = 1.0
    noise: str = ""


class Identity(NamedTuple):
    """The classifier that promises are about.

    Attributes:
        model: str, the fingerprint of the base model.
        norm: `"l1"` or `"l2"`.
        shape: tuple of ints, the shape of one example.
        symmetries: str, a hash of the rearrangements of an example that get the
            same answer; empty if there are none.
        voting: "hard" or "soft".
        serialized: str, the form of serialized smoothing if its votes differ
            from the base model's: "Exact" (votes of the fixed point); else
            empty.
    """

    model: str
    norm: str
    shape: tuple
    symmetries: str
    voting: str = "hard"
    serialized: str = ""


class Budget(NamedTuple):
    """The error probability that a memory's queries have spent in its lifetime.

    Attributes:
        total_alpha: float in (0, 1), of which each query gets a share; or None.
        num_queries: int, the number of queries counted.
        alpha_spent: float, the sum of their alphas.
    """

    total_alpha: float | None = None
    num_queries: int = 0
    alpha_spent: float = 0.0


# The chain before the first promise.
START = 64 * "0"


class Head(NamedTuple):
    """A summary of what a memory holds.

    Attributes:
        num_promises: int.
        num_queries: int, the number of queries counted.
        chain: str, 64 hexadecimal digits: a hash of all promises, in their
            order.
    """

    num_promises: int = 0
    num_queries: int = 0
    chain: str = START


class Answer(NamedTuple):
    """The answer that a logged run got for an example.

    A memory keeps it, so that a resumed run gets the same answer.

    Attributes:
        drawn: bool, whether noise was drawn for the example.
        alpha: float, the alpha it was counted at; None if it was not counted.
        promise: `Promise` that it was answered with; None if it was counted
            but not answered yet.
        memory_alpha: float, the alpha that the memory's queries had spent by
            then.
        memory_head: `Head` of the memory at that time.
    """

    drawn: bool
    alpha: float | None = None
    promise: Promise | None = None
    memory_alpha: float | None = None
    memory_head: Head | None = None


def to_row(query, answer):
    """Returns an answer as stored: the query, a text, and its checksum."""
    promise = answer.promise
    if promise is not None and np.ndim(promise.scale):
        scales = base64.b64encode(promise.scale.astype("<f4").tobytes())
        promise = promise._replace(scale=scales.decode())
    text = json.dumps(answer._replace(promise=promise))
    return query, text, _checksum(query, text)


def from_row(row, shape):
    """Reads a query and its `Answer` from a stored row.

    Args:
        row: tuple of the query, a text, and its checksum.
        shape: tuple of ints, the shape of one example.

    Raises:
        ValueError: if the row is not as it was written.
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
