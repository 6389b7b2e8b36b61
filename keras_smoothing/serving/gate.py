import asyncio
import itertools
import time

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from keras_smoothing.serving.payload import read
from keras_smoothing.serving.room import Room
from keras_smoothing.serving.room import address

# Status for a client that has hung up, as proxies log it.
_HUNG_UP = 499

# Bytes of all requests together: room for `_LARGE_PAYLOADS` of the largest
# payloads, and at least `_LEAST_BYTES`, for many small ones.
_LARGE_PAYLOADS = 4
_LEAST_BYTES = 64 * 2**20


class Gate:
    """Limits the number, the total size and the duration of requests.

    A request gets its place once it is complete: an unfinished body takes no
    place from others, only bytes. Addresses share places and bytes: see `Room`.

    Args:
        metrics: `Metrics`.
        parser: `Parser`.
        max_bytes: int, the largest payload.
        max_requests: int, complete requests at a time: waiting or being
            answered.
        timeout: float, seconds for each request, from its first byte on.
    """

    def __init__(self, metrics, parser, max_bytes, max_requests, timeout):
        self._metrics = metrics
        self._parser = parser
        self._max_bytes = max_bytes
        self._max_requests = max_requests
        self._timeout = timeout
        self._places = Room(max_requests)
        self._bytes = Room(max(_LARGE_PAYLOADS * max_bytes, _LEAST_BYTES))
        self._numbers = itertools.count()

    async def let_in(self, request, handler):
        """Returns the response of `handler`, or raises its exception."""
        began = time.perf_counter()
        status = 500
        try:
            response = await self._limited(request, handler)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            seconds = time.perf_counter() - began
            self._metrics.on_request(request.url.path, status, seconds)

    async def _limited(self, request, handler):
        guest = _Guest(request)

        async def hang_up():
            await guest.was_read.wait()
            await request.receive()  # Only a disconnect can follow.

        answer = asyncio.ensure_future(self._answer(guest, request, handler))
        hung_up = asyncio.ensure_future(hang_up())
        try:
            await asyncio.wait(
                (answer, hung_up, guest.is_out),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer.done():
                return answer.result()
            if hung_up.done():
                raise HTTPException(_HUNG_UP)
            raise self._full(guest)
        finally:
            answer.cancel()
            hung_up.cancel()
            self._places.remove(guest)
            self._bytes.remove(guest)

    async def _answer(self, guest, request, handler):
        def hold(size):
            if not self._bytes.put(guest, size):
                raise self._full(guest)

        def on_progress(size, deadline):
            guest.expect_until(deadline)
            hold(size)

        began = asyncio.get_running_loop().time()
        self._parser.check_type(request.headers.get("content-type"))
        body = await read(request, self._max_bytes, self._timeout, on_progress)
        guest.arrive(next(self._numbers))
        if not self._places.put(guest):
            raise self._full(guest)
        try:
            async with asyncio.timeout_at(began + self._timeout):
                request.state.examples = await self._parser.parse(body)
                del body
                hold(request.state.examples.nbytes)
                return await handler(request)
        except TimeoutError as error:
            raise HTTPException(
                504,
                f"Expected an answer within {self._timeout:g} s. Received: "
                "none. Try again later, or with fewer examples.",
            ) from error

    def _full(self, guest):
        headers = {"Retry-After": "1"}
        if not guest.was_read.is_set():
            headers["Connection"] = "close"
        return HTTPException(
            503,
            f"Expected at most {self._max_requests} requests at a time, of a "
            "limited number of bytes together. Received: more. Try again "
            "later.",
            headers,
        )


class _Guest:
    """A request in the rooms of a gate."""

    def __init__(self, request):
        self.address = address(request.client)
        self.was_read = asyncio.Event()
        self.is_out = asyncio.get_running_loop().create_future()

    def expect_until(self, deadline):
        """Unfinished bodies give way first, by the earliest deadline."""
        self.order = (False, deadline)

    def arrive(self, number):
        """Complete requests give way last, the latest first."""
        self.order = (True, -number)
        self.was_read.set()

    def give_way(self):
        if not self.is_out.done():
            self.is_out.set_result(None)


class GatedRoute(APIRoute):
    """A route behind the gate of its app, `app.state.gate`.

    The endpoint finds the examples in `request.state.examples`.
    """

    def get_route_handler(self):
        handler = super().get_route_handler()

        async def gated(request):
            return await request.app.state.gate.let_in(request, handler)

        return gated
