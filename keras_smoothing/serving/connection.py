from uvicorn.protocols.http.auto import AutoHTTPProtocol


def connection(timeout):
    """A kind of connection to uvicorn that waits for requests, but not forever.

    uvicorn waits without end for the rest of a head. Whoever opens connections
    and says no more would have all that the system has.

    Args:
        timeout: float, seconds without a request after which a connection is
            closed; it may last twice as long.

    Returns:
        class, for `uvicorn.Config(http=...)`.
    """

    class Connection(AutoHTTPProtocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self._look_in(None)

        def connection_lost(self, exc):
            self._next_look.cancel()
            super().connection_lost(exc)

        def _look_in(self, last):
            self._next_look = self.loop.call_later(timeout, self._look, last)

        def _look(self, last):
            """Closes if there has been no request since the last one."""
            is_idle = self.cycle is None or self.cycle.response_complete
            if is_idle and self.cycle is last:
                self.transport.close()
            else:
                self._look_in(self.cycle if is_idle else None)

    return Connection
