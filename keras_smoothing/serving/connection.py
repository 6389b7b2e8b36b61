import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from keras_smoothing.serving.room import Room
from keras_smoothing.serving.room import address

# h11 takes 5 us to read a chunk, however small it is. `_FREE_CHUNKS` chunks of
# any size are read, and more if they have `_CHUNK_BYTES` bytes on average.
_FREE_CHUNKS = 64
_CHUNK_BYTES = 128


def connection(timeout, max_connections=512):
    """A class of uvicorn connections that limits the wait for requests.

    uvicorn waits indefinitely for the rest of a request head. A client that
    opens connections and stays silent could use up all of the system's
    connections.

    The class uses h11 even if httptools is installed: h11 limits the size of
    heads, httptools does not.

    Args:
        timeout: float, seconds without a request after which a connection is
            closed; it may last twice as long.
        max_connections: int, connections at a time. When there are more, the
            address with the most connections loses one that has no complete
            request: first those that never made a request, the oldest first.

    Returns:
        class, for `uvicorn.Config(http=...)`.
    """
    room = Room(max_connections)

    class Connection(H11Protocol):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.conn = _Reader(h11.SERVER)

        def connection_made(self, transport):
            super().connection_made(transport)
            self.address = address(self.client)
            self._has_been_answered = False
            self._idle_since = self.loop.time()
            self._look_in(None)
            room.put(self)

        def connection_lost(self, exc):
            self._next_look.cancel()
            room.remove(self)
            super().connection_lost(exc)

        def on_response_complete(self):
            self._has_been_answered = True
            self._idle_since = self.loop.time()
            super().on_response_complete()

        @property
        def order(self):
            """Key for the connection to close first; None while answering."""
            if self._is_idle() or self.cycle.more_body:
                return self._has_been_answered, self._idle_since
            return None

        def give_way(self):
            # Not `close`, which waits until the client has read the output.
            self.transport.abort()

        def _should_upgrade(self):
            # No web sockets: they would use another class of connections.
            return False

        def _is_idle(self):
            return self.cycle is None or self.cycle.response_complete

        def _look_in(self, last):
            self._next_look = self.loop.call_later(timeout, self._look, last)

        def _look(self, last):
            """Closes the connection if there was no request since `last`."""
            is_idle = self._is_idle()
            if is_idle and self.cycle is last:
                self.transport.close()
            else:
                self._look_in(self.cycle if is_idle else None)

    return Connection


class _Reader(h11.Connection):
    """Refuses bodies in many chunks with few bytes."""

    def next_event(self):
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._num_chunks = self._num_bytes = 0
        elif isinstance(event, h11.Data):
            self._num_chunks += event.chunk_start
            self._num_bytes += len(event.data)
            more = self._num_chunks - _FREE_CHUNKS
            if self._num_bytes < more * _CHUNK_BYTES:
                raise h11.RemoteProtocolError(
                    f"Expected chunks of {_CHUNK_BYTES} bytes or more. "
                    "Received: many smaller ones"
                )
        return event
