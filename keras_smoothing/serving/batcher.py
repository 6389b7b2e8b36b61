import asyncio
import contextlib
import dataclasses
import typing

import numpy as np


class Batcher:
    """Gathers what arrives while the model is busy into one batch for it.

    A single thread runs the model, which uses all cores by itself. A batch is
    closed when the thread is free: what arrives later is in the next one.
    Whatever is no longer waited for when its turn comes is dropped.

    Args:
        thread: `concurrent.futures.Executor` of that thread.
        window: int, the number of examples that fill a batch. What is asked for
            at once stays together, also where it is more.
        on_batch: called with the number of examples of each batch.

    Attributes:
        waiting: list of what has not begun.
    """

    def __init__(self, thread, window, on_batch):
        self.waiting = []
        self._thread = thread
        self._window = window
        self._on_batch = on_batch
        self._arrived = None

    @contextlib.asynccontextmanager
    async def running(self):
        """Answers inside of this context. At its end, what runs is finished."""
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
        """The answers to some examples, once it is their turn.

        Args:
            function: from a float array, shape `(examples, ...)`, to a list
                with an answer for each, whatever else is in the array.
            x: such an array.

        Returns:
            such a list.
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
        """Takes the first in the queue, and what of its kind follows it."""
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
        if not self.answers.done():  # As where nobody waits any more.
            self.answers.set_result(answers)

    def fail(self, error):
        if not self.answers.done():
            self.answers.set_exception(error)
