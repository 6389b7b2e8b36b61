import asyncio
import contextlib
import dataclasses
import typing

import numpy as np


class Batcher:
    """Gathers requests that arrive while the model is busy into one batch.

    A single thread runs the model, which uses all cores by itself. A batch is
    closed when the thread is free: later requests go into the next batch. A
    request whose client no longer waits is dropped.

    Args:
        thread: `concurrent.futures.Executor` of that thread.
        window: int, the number of examples that fill a batch. The examples of
            one request stay together, even if there are more.
        on_batch: called with the number of examples of each batch.

    Attributes:
        waiting: list of the requests that have not begun.
    """

    def __init__(self, thread, window, on_batch):
        self.waiting = []
        self._thread = thread
        self._window = window
        self._on_batch = on_batch
        self._arrived = None

    @contextlib.asynccontextmanager
    async def running(self):
        """A context in which requests are answered. It lets a batch finish."""
        self._arrived = asyncio.Event()
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._thread.submit(lambda: None).result()

    async def ask(self, function, x):
        """The answers for some examples, once it is their turn.

        Args:
            function: function that maps a float array, shape
                `(examples, ...)`, to a list of answers. The answer for an
                example must not depend on the rest of the array.
            x: such an array.

        Returns:
            list with an answer for each example.
        """
        answers = asyncio.get_running_loop().create_future()
        question = _Question(function, x, answers)
        self.waiting.append(question)
        self._arrived.set()
        try:
            return await answers
        finally:
            with contextlib.suppress(ValueError):  # It has begun.
                self.waiting.remove(question)

    async def _run(self):
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if not batch:
                self._arrived.clear()
                continue
            x = np.concatenate([question.x for question in batch])
            self._on_batch(len(x))
            try:
                answers = await loop.run_in_executor(
                    self._thread, batch[0].function, x
                )
            except Exception as error:
                for question in batch:
                    question.fail(error)
            else:
                for question in batch:
                    number = len(question.x)
                    question.succeed(answers[:number])
                    answers = answers[number:]

    def _next_batch(self):
        """Takes the first request, and later ones for the same function."""
        batch, room = [], self._window
        for question in list(self.waiting):
            if batch and question.function != batch[0].function:
                continue
            room -= len(question.x)
            if batch and room < 0:
                break
            batch.append(question)
            self.waiting.remove(question)
        return batch


@dataclasses.dataclass(frozen=True, eq=False)
class _Question:
    function: typing.Callable
    x: np.ndarray
    answers: asyncio.Future

    def succeed(self, answers):
        if not self.answers.done():  # Cancelled if nobody waits any more.
            self.answers.set_result(answers)

    def fail(self, error):
        if not self.answers.done():
            self.answers.set_exception(error)
