import asyncio
import concurrent.futures
import logging
import time

_log = logging.getLogger(__name__)

# Seconds for which an answer is valid, and the most seconds to wait for one.
_FRESH = 1.0
_WAIT = 0.25

# Seconds after which a locked memory counts as not ready.
_PATIENCE = 2.0


class Readiness:
    """Whether a request for certificates would be answered now.

    It probes the model's thread and the memory at most once a second, and not
    behind waiting batches. If one of them takes too long to reply, the service
    is not ready.

    Args:
        service: `Service`.
        timeout: float, seconds within which a request is answered. A model that
            is busy for longer counts as stuck.

    Attributes:
        is_closing: bool, whether the service is shutting down.
    """

    def __init__(self, service, timeout):
        self.is_closing = False
        self._timeout = timeout
        # Probing the memory does not always show damage that a batch found.
        self._damage = None
        self._last = None
        beside = concurrent.futures.ThreadPoolExecutor(1, "readiness")
        self._model = _Heartbeat(service.thread, lambda: None, timeout)
        self._memory = _Heartbeat(beside, service.try_memory, _PATIENCE)

    async def problem(self):
        """Why the service is not ready, in a sentence; None if it is."""
        problem, error = None, None
        if self.is_closing:
            problem = "Expected a service that runs. Received: one that ends"
        elif not await self._model.beats():
            problem = (
                "Expected a model that answers. Received: one that has been "
                f"busy for more than {self._timeout:g} s"
            )
        elif self._damage is not None:
            problem = self._damage
        else:
            try:
                if not await self._memory.beats():
                    raise TimeoutError(
                        "Expected a memory that answers. Received: no answer "
                        f"within {_PATIENCE:g} s"
                    )
            except (OSError, ValueError) as raised:
                problem, error = memory_problem(raised), raised
        if problem != self._last:  # Log changes only.
            _log.warning("%s", error or problem or "Ready again.")
        self._last = problem
        return problem

    def on_answers(self):
        """Records that a batch was answered."""
        self._damage = None

    def on_failure(self, error):
        """Records that the memory failed; returns a message for the client."""
        _log.error("%s", error)
        sentence = memory_problem(error)
        if not isinstance(error, OSError):  # Damage does not go away by itself.
            self._damage = sentence
        return sentence


class _Heartbeat:
    """Calls a function on a thread repeatedly, one call at a time."""

    def __init__(self, thread, function, patience):
        self._thread = thread
        self._function = function
        self._patience = patience
        self._call = None

    async def beats(self):
        """Whether the last call has returned, or still has time to.

        Raises:
            Exception: the exception of the call.
        """
        asked = time.monotonic()
        if self._call is None or (
            self._call.done() and asked - self._began > _FRESH
        ):
            self._began = asked
            self._call = self._thread.submit(self._function)
        while not self._call.done():
            now = time.monotonic()
            if now - asked > _WAIT:
                return now - self._began < self._patience
            await asyncio.sleep(0.005)
        self._call.result()
        return True


def memory_problem(error):
    """The message for a client when the memory raised an error."""
    return (
        "Expected a memory that is in its place, undamaged, and can be read "
        f"and written. Received: {type(error).__name__}. Nothing was promised."
    )
