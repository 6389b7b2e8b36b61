import asyncio
import time

import fastapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

# Of a client that has hung up, as proxies log it.
_HUNG_UP = 499


class Gate:
    """Lets in as many requests as there is room for, and for so long.

    Room is made before a payload is read, so that what is held in memory is
    limited too.

    Args:
        metrics: `Metrics`.
        max_bytes: int, the largest payload.
        max_requests: int, requests at a time: read, waiting or answered.
        timeout: float, seconds for each, from its first byte on.
    """

    def __init__(self, metrics, max_bytes, max_requests, timeout):
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._max_requests = max_requests
        self._timeout = timeout
        self._inside = 0

    async def let_in(self, request, handler):
        """The response of `handler`, or the exception that it ends with."""
        began = time.perf_counter()
        status = 500
        try:
            response = await self._limited(request, handler)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        except fastapi.exceptions.RequestValidationError:
            status = 422
            raise
        finally:
            seconds = time.perf_counter() - began
            self._metrics.on_request(request.url.path, status, seconds)

    async def _limited(self, request, handler):
        if self._inside >= self._max_requests:
            raise HTTPException(
                503,
                f"Expected at most {self._max_requests} requests at a time. "
                "Received: one more. Try again later.",
                {"Retry-After": "1"},
            )
        self._inside += 1
        try:
            return await self._answered(request, handler)
        finally:
            self._inside -= 1

    async def _answered(self, request, handler):
        was_read, size = asyncio.Event(), 0

        async def receive():
            nonlocal size
            message = await request.receive()
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                raise HTTPException(
                    413,
                    f"Expected a payload of at most {self._max_bytes} bytes. "
                    "Received: more",
                )
            if not message.get("more_body"):
                was_read.set()
            return message

        async def hang_up():
            await was_read.wait()
            await request.receive()  # Nothing else can follow.

        answer = asyncio.ensure_future(
            handler(fastapi.Request(request.scope, receive))
        )
        hung_up = asyncio.ensure_future(hang_up())
        try:
            await asyncio.wait(
                (answer, hung_up),
                timeout=self._timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer.done():
                return answer.result()
            if hung_up.done():
                raise HTTPException(_HUNG_UP)
            raise HTTPException(
                504,
                f"Expected an answer within {self._timeout:g} s. Received: "
                "none. Try again later, or with fewer examples.",
            )
        finally:
            answer.cancel()
            hung_up.cancel()


class GatedRoute(APIRoute):
    """A route behind the gate of its app, `app.state.gate`."""

    def get_route_handler(self):
        handler = super().get_route_handler()

        async def gated(request):
            return await request.app.state.gate.let_in(request, handler)

        return gated
