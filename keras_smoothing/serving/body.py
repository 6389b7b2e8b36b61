import asyncio

from starlette.exceptions import HTTPException

# Seconds that every body has, and bytes a second that give it more of them.
_GRACE = 10.0
_PACE = 16 * 2**10


async def read(request, max_bytes, timeout, on_progress):
    """The body of a request, if it is small and fast enough.

    A body has 10 s, and a second more for each 16 KiB that have arrived. One
    that says that it is too large is not read at all.

    Args:
        request: `starlette.requests.Request` whose body nobody has read.
        max_bytes: int, the largest body.
        timeout: float, seconds for it at most, at any pace.
        on_progress: called with the number of bytes so far, and the time of
            the event loop until which more has to arrive; before the first,
            and whenever some have arrived.

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
    # Closed, since what follows would have to be read until its end.
    return HTTPException(
        413,
        f"Expected a payload of at most {max_bytes} bytes. Received: more",
        {"Connection": "close"},
    )
