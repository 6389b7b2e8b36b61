"""Chunks of examples that are sampled on a cluster."""

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
def on_cluster(task, chunks, model, cluster):
    """Samples chunks on the workers of a cluster.

    Args:
        task: `Task`.
        chunks: iterator of `Chunk`.
        model: str, the fingerprint of the base model.
        cluster: `keras_smoothing.cluster.Ray`.

    Yields:
        iterator of each chunk and a function, to be called before the next
        one, from any part of the chunk to what `Task.sample` returns of it.
    """
    first = next(chunks, None)
    if first is None:  # All are known, and no worker is needed.
        yield iter(())
        return
    chunks = itertools.chain([first], chunks)
    with cluster.workers(FarTask(task.on_worker, model)) as workers:
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
            # Of examples to come. Those before them are finished first.
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
    """Of examples that were sampled, those that are asked for."""
    which = np.searchsorted(sent, chunk.index)
    return [records[i] for i in which], scale[which]


@dataclasses.dataclass(frozen=True)
class FarTask:
    """Samples on a worker, where nobody sees warnings or the progress.

    Attributes:
        task: `Task`.
        model: as of `on_cluster`.
    """

    task: typing.Any
    model: str

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
        return _loaded, (custom_objects, self.task, self.model)

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
        # Of text alone: not every error can be sent back.
        return RuntimeError(
            f"Expected examples that can be certified. Received: {name}, of "
            f"which the model says {type(error).__name__}: {error}"
        )


def _loaded(custom_objects, task, model):
    """A `FarTask`, on the worker that unpickles it."""
    if fingerprint(task.sampler.base_model) != model:
        raise ValueError(
            "Expected the base model to arrive as it was sent. Received: other "
            "weights or another configuration"
        )
    return FarTask(task, model)
