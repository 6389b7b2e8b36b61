"""Where windows of examples are sampled: here, or on a cluster."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import typing
import warnings

import numpy as np

from keras_smoothing.certification.same_weights import check_same_weights
from keras_smoothing.cluster import CustomObjects
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs import structure
from keras_smoothing.warn_caller import warn_caller


class Window(typing.NamedTuple):
    """Some examples of a run.

    Attributes:
        x: float32 array, shape `(examples, ...)`.
        labels: list of ints or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        rounding: float64 array, shape `(examples,)`: how far each is from what
            was passed in.
    """

    x: np.ndarray
    labels: list
    index: np.ndarray
    rounding: np.ndarray


@contextlib.contextmanager
def spread(windows, sample, model, *, cluster, unknown, on_draws):
    """Samples windows, where they are to be sampled.

    Args:
        windows: iterator of `Window`.
        sample: partial of `sampling.sample`, without `on_draws`.
        model: str, the fingerprint of the base model.
        cluster: `keras_smoothing.cluster.Ray`, or None for this process.
        unknown: function from the parts of a `Window` to those of the examples
            that are sent to a cluster, since no memory answers them; or None.
        on_draws: called with the work done in this process, in examples.

    Yields:
        iterator of each window and a function, to be called before the next
        one, from the parts of a `Window` of any of its examples to a `Record`
        of each, and their scales. That may take the time of the draws.

    Raises:
        RuntimeError: if the weights change while draws are made here; workers
            have weights of their own.
    """
    if cluster is None:
        here = functools.partial(_sample_here, sample, model, on_draws)
        yield ((window, here) for window in windows)
        return
    first = next(windows, None)
    if first is None:  # All are known, and no worker is needed.
        yield iter(())
        return
    windows = itertools.chain([first], windows)
    with cluster.workers(_FarSampler(sample, model)) as workers:
        yield _of_workers(workers, windows, unknown)


def _sample_here(sample, model, on_draws, *window):
    sampled = sample(*window, on_draws=on_draws)
    counter, *_ = sample.args
    check_same_weights(counter.base_model, model)
    return sampled


def _of_workers(workers, windows, unknown):
    sent, unreadable = collections.deque(), []

    def tasks():
        try:
            for window in windows:
                task = window
                if unknown is not None:
                    task = Window(*unknown(*window))
                sent.append((window, task))
                yield task
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
        window, task = sent.popleft()
        for category, message in caught:
            warn_caller(message, category)
        yield window, functools.partial(_chosen, task.index, records, scale)
    if unreadable:
        raise unreadable[0]


def _chosen(sent, records, scale, x, labels, index, rounding):
    """Of examples that were sampled, those that are asked for."""
    which = np.searchsorted(sent, index)
    return [records[i] for i in which], scale[which]


@dataclasses.dataclass(frozen=True)
class _FarSampler:
    """Samples on a worker, where nobody sees warnings or the progress.

    Attributes:
        sample: as in `spread`.
        model: as there.
    """

    sample: functools.partial
    model: str

    def __call__(self, *window):
        """Records, scales, and category and text of each warning."""
        window = Window(*window)
        if not len(window.index):
            return [], np.ones(0, np.float32), []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                records, scale = self._sample(*window)
            except Exception as error:
                raise self._named(error, window) from None
        caught = [(each.category, str(each.message)) for each in caught]
        return records, scale, caught

    def __reduce__(self):
        counter, *_ = self.sample.args
        custom_objects = CustomObjects(structure(counter.base_model))
        return _loaded, (custom_objects, self.sample, self.model)

    def _sample(self, *window):
        return self.sample(*window, on_draws=lambda share: None)

    def _named(self, error, window):
        """The error, with the number of the example that raises it alone."""
        index = window.index
        name = f"examples {index[0]} to {index[-1]}, together"
        for i in range(len(index)):
            try:
                self._sample(*(part[i : i + 1] for part in window))
            except Exception as alone:
                name, error = f"example {index[i]}", alone
                break
        # Of text alone: not every error can be sent back.
        return RuntimeError(
            f"Expected examples that can be certified. Received: {name}, of "
            f"which the model says {type(error).__name__}: {error}"
        )


def _loaded(custom_objects, sample, model):
    """A `_FarSampler`, on the worker that unpickles it."""
    counter, *_ = sample.args
    if fingerprint(counter.base_model) != model:
        raise ValueError(
            "Expected the base model to arrive as it was sent. Received: other "
            "weights or another configuration"
        )
    return _FarSampler(sample, model)
