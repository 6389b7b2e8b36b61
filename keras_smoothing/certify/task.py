import abc
import dataclasses
import time
import typing

import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.stopping import WINDOW
from keras_smoothing.certificates.utils import example_digest
from keras_smoothing.results import result_of


class Chunk(typing.NamedTuple):
    """Examples of a run that share the noise of each draw.

    Attributes:
        x: float32 array, shape `(examples, ...)`.
        labels: list of labels, or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        rounding: float64 array, shape `(examples,)`: the distance of each from
            the example that was passed in.
    """

    x: np.ndarray
    labels: list
    index: np.ndarray
    rounding: np.ndarray

    def part(self, which):
        """The chunk of the examples that a slice or an int array selects."""
        which = np.arange(len(self.x))[which]
        return Chunk(
            self.x[which],
            [self.labels[i] for i in which],
            self.index[which],
            self.rounding[which],
        )


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """A certification or prediction task. One class for each family.

    `run` reads examples in chunks, has the task sample them here or on a
    cluster, and has it finish them in order.

    Attributes:
        sampler: `Sampler`, how draws are made.
        claim: what the draws are to prove.
        seed: int, the root of all draws; None until a run has one.
        batch_size: int, noisy copies in one forward pass.
        model: str, the fingerprint of the base model when the run began.

    Raises:
        ValueError: if an attribute is not as described.
    """

    sampler: typing.Any
    claim: typing.Any
    seed: int | None = None
    batch_size: int = 1024
    model: str | None = None

    # Examples in a chunk.
    window = WINDOW
    # The search for the noise of each example, or None.
    searcher = None

    def __post_init__(self):
        checks.positive_int("batch_size", self.batch_size)
        if self.seed is not None:
            checks.seed(self.seed)

    @property
    def num_draws(self):
        """int, the most draws made at once for an example."""
        return self.claim.n

    @abc.abstractmethod
    def sample(self, chunk, on_draws):
        """Draws for a chunk. This may run anywhere, in any order.

        Args:
            chunk: `Chunk`.
            on_draws: function, called with the work done, in examples.

        Returns:
            list with a record for each example, and the scales of the noise: a
            float32 array, shape `(examples,)` or `(examples, ...)`.
        """

    def records(self, chunk, began, **fields):
        """Makes a record for each example of a chunk.

        Args:
            chunk: `Chunk`.
            began: float, when sampling began, by `time.perf_counter`.
            **fields: arrays of the other fields of a record, with a row or
                number for each example.

        Returns:
            list of named tuples.
        """
        record_type = result_of(self.claim).record_type
        seconds = (time.perf_counter() - began) / len(chunk.x)
        return [
            record_type(
                label=chunk.labels[i],
                time=seconds,
                digest=example_digest(chunk.x[i]),
                rounding=float(chunk.rounding[i]),
                **{name: values[i] for name, values in fields.items()},
            )
            for i in range(len(chunk.x))
        ]

    def check(self, answers):  # noqa: B027 - some have nothing to check.
        """Raises ValueError if nothing can be proved; warns if only little.

        Args:
            answers: the result of `Sampler.answers`.
        """

    def settings(self, answers):
        """Settings beside sampler and claim that certificates depend on, as
        JSON types.
        """
        return {"answers": answers}

    def prepared(self, examples, answers, batch_size, family_wise):
        """Returns the task for these examples.

        Args:
            examples: `Examples`.
            answers: as in `check`.
            batch_size: int, small enough for the memory.
            family_wise: bool, whether alpha is shared by all examples.

        Returns:
            `Task`.

        Raises:
            ValueError: if nothing can be proved.
        """
        task = dataclasses.replace(self, batch_size=batch_size)
        if family_wise:
            claim = self.claim.shared_by(examples.known_total(self._advice))
            task = dataclasses.replace(task, claim=claim)
        task.check(answers)
        return task

    _advice = ""

    def begun(self, log):
        """Returns the task with the seed of its open log."""
        return dataclasses.replace(self, seed=log.settings["seed"])

    def labels_that_count(self, x, labels):
        """The labels, with those of padding marked as not counting."""
        return labels

    @property
    def on_worker(self):
        """The part of the task that samples and is sent to a cluster."""
        return self

    def unknown(self, chunk):
        """The part of a chunk that has to be sampled."""
        return chunk

    def finish(self, chunk, sample):
        """Records of a chunk, in the order of the run.

        Args:
            chunk: `Chunk`.
            sample: function from a part of it to the result of `Task.sample`.

        Returns:
            list.
        """
        records, _ = sample(chunk)
        return records


def least_scale(scale):
    """The smallest scale of each example: float64 array, `(examples,)`."""
    return scale.reshape(len(scale), -1).min(axis=1).astype(np.float64)


def mean_scale(scale):
    """The geometric mean scale of each example, never below the smallest.

    Args:
        scale: float array, shape `(examples,)` or `(examples, ...)`.

    Returns:
        float64 array, shape `(examples,)`.
    """
    scale = scale.reshape(len(scale), -1).astype(np.float64)
    if scale.shape[1] == 1:
        return scale[:, 0]
    # A product of hundreds of scales underflows.
    return np.maximum(np.exp(np.log(scale).mean(axis=1)), scale.min(axis=1))
