import asyncio
import concurrent.futures
import email.message
import itertools
import math
import re

import numpy as np
import pydantic
from starlette.exceptions import HTTPException

from keras_smoothing.serving import schemas

# A body may take `_GRACE` seconds, and a second more for each `_PACE` bytes.
_GRACE = 10.0
_PACE = 16 * 2**10


async def read(request, max_bytes, timeout, on_progress):
    """Reads the body of a request, if it is small and fast enough.

    A body may take 10 s, and a second more for each 16 KiB that have arrived. A
    body whose declared length is too large is not read at all.

    Args:
        request: `starlette.requests.Request` whose body was not read yet.
        max_bytes: int, the largest body.
        timeout: float, the most seconds for a body, at any pace.
        on_progress: called with the number of bytes so far, and the event-loop
            time by which more must arrive; before the first bytes, and whenever
            some have arrived.

    Returns:
        bytes.

    Raises:
        HTTPException: 413 if it is too large, 408 if it is too slow, 499 if
            the client hangs up.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    began = asyncio.get_running_loop().time()
    parts, size, is_complete = [], 0, False
    try:
        async with asyncio.timeout(None) as limit:
            while True:
                until = began + min(timeout, _GRACE + size / _PACE)
                limit.reschedule(until)
                on_progress(size, until)
                if is_complete:
                    break
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise HTTPException(499)
                part = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                parts.append(part)
                is_complete = not message.get("more_body")
    except TimeoutError as error:
        raise HTTPException(
            408,
            f"Expected a body at {_PACE} bytes a second or more, within "
            f"{timeout:g} s. Received: {size} bytes, and no end",
            {"Connection": "close"},
        ) from error
    return b"".join(parts)


def _too_large(max_bytes):
    # Close the connection: otherwise all of the body would have to be read.
    return HTTPException(
        413,
        f"Expected a payload of at most {max_bytes} bytes. Received: more",
        {"Connection": "close"},
    )


# Bytes parsed at a time. This takes about a millisecond, in which nothing else
# in this process runs Python.
_PIECE = 64 * 2**10

_SPACE = b" \t\n\r"
_HEAD = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"instances"[ \t\n\r]*:[ \t\n\r]*')

# A float64 in JSON has up to 24 characters, as in -2.2250738585072014e-308,
# followed by a comma and a space. A list has two brackets.
_NUMBER = 26
_LIST = 2
_FRAME = 1024


def longest_payload(shape, max_examples):
    """Upper bound on the bytes of examples as Python's `json` writes them.

    It is `examples * (26 * numbers + 2 * lists) + 1024`, with the numbers and
    lists of one example.

    Args:
        shape: tuple of ints, the shape of one example.
        max_examples: int, the largest number of examples in one request.

    Returns:
        int.
    """
    example = _NUMBER * math.prod(shape) + _LIST * _num_lists(shape)
    return max_examples * example + _FRAME


class Parser:
    """Parses payloads to arrays, on its own thread.

    A payload with too many lists or values is not parsed. A parser written in C
    blocks all threads until it finishes. So long payloads are cut into their
    examples, or rows of these, which are parsed in turns with those of other
    payloads.

    Args:
        service: `Service`.
        max_examples: int, the largest number of examples in one request.
    """

    def __init__(self, service, max_examples):
        self._service = service
        self._shape = service.shape
        self._max_examples = max_examples
        self.payload = schemas.payload(
            service.shape, service.limit, max_examples
        )
        self._lists = [
            pydantic.TypeAdapter(
                schemas.nested(service.shape[i:], service.limit)
            )
            for i in range(len(service.shape))
        ]
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "parser")

    def check_type(self, content_type):
        """Raises unless the Content-Type header says that the body is JSON."""
        message = email.message.Message()
        message["content-type"] = content_type or ""
        subtype = message.get_content_subtype()
        if message.get_content_maintype() != "application" or not (
            subtype == "json" or subtype.endswith("+json")
        ):
            raise HTTPException(
                422,
                f"{self._expected()}, and the header Content-Type: "
                "application/json. Received: another Content-Type, or none",
                {"Connection": "close"},
            )

    async def parse(self, body):
        """The examples of a payload, as `Service.check` returns them.

        Raises:
            HTTPException: 400 if the payload is not JSON, 422 if it does not
                contain valid examples.
        """
        loop, steps, x = asyncio.get_running_loop(), self._steps(body), None
        while x is None:
            x = await loop.run_in_executor(self._thread, _advanced, steps)
        return x

    def _steps(self, body):
        """Yields the number of bytes parsed by each step, then the array."""
        self._check_counts(body)
        if len(body) <= _PIECE or not self._shape:
            x = self._parsed(self.payload.model_validate_json, body).instances
            if body.count(b'"') > 2:  # There is no other key.
                raise self._refused("`instances` twice")
        else:
            x = yield from self._cut(body)
        try:
            yield self._service.check(x)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    def _check_counts(self, body):
        lists = body.count(b"[")
        values = body.count(b",") + 1
        most = self._max_examples
        if lists > 1 + most * _num_lists(
            self._shape
        ) or values > most * math.prod(self._shape):
            raise self._refused(f"{lists} lists, {values} values")

    def _cut(self, body):
        head = _HEAD.match(body)
        brace = body.rfind(b"}")
        if head is None or brace < 0 or body[brace + 1 :].strip(_SPACE):
            raise self._refused("at body: no object with `instances`")
        root = ("instances",)
        children = self._children(body, head.end(), brace, 0, root)
        if not 1 <= len(children) <= self._max_examples:
            raise self._refused(f"{len(children)} examples")
        x = np.empty((len(children), *self._shape))
        yield from self._fill(x, body, children, 0, root)
        return x

    def _fill(self, x, body, children, depth, place):
        """Fills an array with the lists at these positions of a body."""
        for i, (start, stop) in enumerate(children):
            where = (*place, i)
            if stop - start <= _PIECE or depth + 1 == len(self._shape):
                parse = self._lists[depth].validate_json
                x[i] = self._parsed(parse, body[start:stop], where)
                yield stop - start
            else:
                inner = self._children(body, start, stop, depth + 1, where)
                if len(inner) != len(x[i]):
                    raise self._refused(
                        f"at {_name(where)}: {len(inner)} lists"
                    )
                yield from self._fill(x[i], body, inner, depth + 1, where)

    def _children(self, body, start, stop, depth, place):
        """Starts and stops of the lists in a list, found by counting brackets.

        The positions are right for JSON of the right shape. In any other text,
        parsing one of the pieces fails later.
        """
        last = body.rfind(b"]", start, stop)
        starts = _every(body, start + 1, stop, _num_lists(self._shape[depth:]))
        stops = [body.rfind(b",", i, j) for i, j in itertools.pairwise(starts)]
        gaps = [(start + 1, starts[0] if starts else last)]
        gaps += [(i + 1, j) for i, j in zip(stops, starts[1:], strict=True)]
        gaps += [(last + 1, stop)]
        if body[start : start + 1] != b"[" or any(
            body[i:j].strip(_SPACE) for i, j in gaps
        ):
            raise self._refused(f"at {_name(place)}: no list of lists")
        return list(zip(starts, (*stops, last), strict=False))

    def _parsed(self, parse, text, place=()):
        try:
            return parse(text)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = _name((*place, *first["loc"]))
            status = 400 if first["type"] == "json_invalid" else 422
            raise self._refused(
                f"at {where}: {first['msg']}", status
            ) from error

    def _refused(self, received, status=422):
        return HTTPException(
            status, f"{self._expected()}. Received: {received}"
        )

    def _expected(self):
        sizes = ", ".join(map(str, ("examples", *self._shape)))
        return (
            f"Expected `instances` of shape ({sizes}), nested lists of finite "
            f"numbers, with 1 to {self._max_examples} examples, and nothing "
            "else"
        )


def _advanced(steps):
    """Runs steps for one piece; returns the array after the last."""
    left = _PIECE
    for step in steps:
        if isinstance(step, np.ndarray):
            return step
        left -= step
        if left <= 0:
            return None


def _num_lists(shape):
    """Number of lists in the JSON of an array."""
    return sum(math.prod(shape[:i]) for i in range(len(shape)))


def _every(body, start, stop, step):
    """Positions of every `step`-th opening bracket, including the first."""
    found, seen = [], 0
    for at in range(start, stop, _PIECE):
        text = np.frombuffer(body, np.uint8, min(_PIECE, stop - at), at)
        here = at + np.flatnonzero(text == ord("["))
        found += here[-seen % step :: step].tolist()
        seen += len(here)
    return found


def _name(place):
    return "body" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in place
    )
