"""Sampling of chunks of examples on a cluster."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import typing
import warnings

import numpy as np

from keras_smoothing.certificates.utils import warn_caller
from keras_smoothing.certify.task import Chunk
from keras_smoothing.cluster import CustomObjects
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs import structure


@contextlib.contextmanager
def on_cluster(task, chunks, cluster):
    """Samples chunks on the workers of a cluster.

    Args:
        task: `Task`.
        chunks: iterator of `Chunk`.
        cluster: `keras_smoothing.cluster.Ray`.

    Yields:
        iterator of pairs of a chunk and a function from any part of it to what
        `Task.sample` returns for that part. Call the function before the next
        chunk.
    """
    first = next(chunks, None)
    if first is None:  # All are known: no worker is needed.
        yield iter(())
        return
    chunks = itertools.chain([first], chunks)
    with cluster.workers(FarTask(task.on_worker)) as workers:
        yield _of_workers(workers, chunks, task.unknown)


def _of_workers(workers, chunks, unknown):
    sent, unreadable = collections.deque(), []

    def tasks():
        try:
            for chunk in chunks:
                asked = unknown(chunk)
                sent.append((chunk, asked))
                yield asked
        except Exception as error:
            # Concerns later examples: the earlier ones are finished first.
            unreadable.append(error)

    results = workers.map(tasks())
    while True:
        try:
            records, scale, caught = next(results)
        except StopIteration:
            break
        except workers.deaths as error:
            index = sent[0][1].index
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(
                "Expected workers to live through the examples they certify. "
                f"Received: one that died, several times, at examples "
                f"{index[0]} to {index[-1]}: {reason}"
            ) from error
        chunk, asked = sent.popleft()
        for category, message in caught:
            warn_caller(message, category)
        yield chunk, functools.partial(_chosen, asked.index, records, scale)
    if unreadable:
        raise unreadable[0]


def _chosen(sent, records, scale, chunk):
    """The records and scales of a chunk, out of those that were sampled."""
    which = np.searchsorted(sent, chunk.index)
    return [records[i] for i in which], scale[which]


@dataclasses.dataclass(frozen=True)
class FarTask:
    """Samples on a worker, where nobody sees warnings or progress.

    Attributes:
        task: `Task`.
    """

    task: typing.Any

    def __call__(self, *chunk):
        """Records, scales, and category and text of each warning."""
        chunk = Chunk(*chunk)
        if not len(chunk.index):
            return [], np.ones(0, np.float32), []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                records, scale = self._sample(chunk)
            except Exception as error:
                raise self._named(error, chunk) from None
        caught = [(each.category, str(each.message)) for each in caught]
        return records, scale, caught

    def __reduce__(self):
        custom_objects = CustomObjects(structure(self.task.sampler.base_model))
        return _loaded, (custom_objects, self.task)

    def _sample(self, chunk):
        return self.task.sample(chunk, lambda share: None)

    def _named(self, error, chunk):
        """The error, with the number of the example that raises it alone."""
        index = chunk.index
        name = f"examples {index[0]} to {index[-1]}, together"
        for i in range(len(index)):
            try:
                self._sample(chunk.part([i]))
            except Exception as alone:
                name, error = f"example {index[i]}", alone
                break
        # As text only: not every error can be pickled.
        return RuntimeError(
            f"Expected examples that can be certified. Received: {name}, of "
            f"which the model says {type(error).__name__}: {error}"
        )


def _loaded(custom_objects, task):
    """A `FarTask` unpickled on a worker."""
    if fingerprint(task.sampler.base_model) != task.model:
        raise ValueError(
            "Expected the base model to arrive as it was sent. Received: other "
            "weights or another configuration"
        )
    return FarTask(task)
