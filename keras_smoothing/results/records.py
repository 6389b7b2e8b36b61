"""Records of one example after sampling: rows of a log."""

import math
from typing import NamedTuple

import numpy as np

from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.memory import Head
from keras_smoothing.memory import Promise


class Record(NamedTuple):
    """The outcome of sampling for one example.

    Attributes:
        label: int or None.
        candidate: int, the selected class; `ABSTAIN` if the model returned NaN.
        counts: int64 array, shape `(classes,)`.
        num_samples: int, estimation draws.
        nan_draws: int, draws for which the model returned NaN.
        scale: float, the factor of its noise; the smallest factor if each
            coordinate has one.
        mean_scale: float, the geometric mean of these factors.
        time: float, seconds.
        digest: str, a hash of the example.
        findings: dict from names to ints or to int64 arrays, shape
            `(classes,)`: what the sampler counted beside the votes.
        promise: `keras_smoothing.memory.Promise` of a memory, or None without a
            memory.
        rounding: float, the distance of the rounded example from the one that
            was passed in, in the norm of the noise.
        memory_alpha: float, the sum of the alphas of all queries of the memory
            once the window of the example was answered; None if not known.
        memory_head: `keras_smoothing.memory.Head` of the memory at that time,
            or None if not known.
    """

    label: int | None
    candidate: int
    counts: np.ndarray
    num_samples: int
    nan_draws: int
    scale: float
    mean_scale: float
    time: float
    digest: str
    findings: dict
    promise: Promise | None = None
    rounding: float = 0.0
    memory_alpha: float | None = None
    memory_head: Head | None = None


def check_rounding(rounding):
    """Raises ValueError unless it is a finite distance."""
    if not 0 <= rounding < math.inf:
        raise ValueError(f"a distance expected, {rounding=} received")


class ComponentRecord(NamedTuple):
    """The outcome of sampling for the components of one example.

    Attributes:
        label: int32 array, shape `(*components,)`; -1 where it is not known; or
            None.
        candidate: int32 array of that shape, the selected classes; `ABSTAIN`
            where the model returned NaN, and at padding.
        votes: int32 array of that shape, the votes for the candidates.
        nan_draws: int32 array of that shape, draws with a NaN output.
        num_samples: int, estimation draws.
        time: float, seconds.
        digest: str, a hash of the example.
        rounding: float, as in `Record`.
    """

    label: np.ndarray | None
    candidate: np.ndarray
    votes: np.ndarray
    nan_draws: np.ndarray
    num_samples: int
    time: float
    digest: str
    rounding: float = 0.0

    def check(self, answers, claim):
        """Raises ValueError for a record that no sampling can give.

        Args:
            answers: tuple of ints, `(*components, classes)`.
            claim: `ComponentClaim`.
        """
        check_rounding(self.rounding)
        *components, classes = answers
        arrays = (self.candidate, self.votes, self.nan_draws)
        if self.label is not None:
            arrays = (*arrays, self.label)
        for array in arrays:
            if (
                array is None
                or array.dtype != np.int32
                or array.shape != tuple(components)
            ):
                raise ValueError(
                    f"integers of shape {tuple(components)} expected"
                )
        abstains = self.candidate == ABSTAIN
        if not (
            self.num_samples == claim.n
            and np.all((ABSTAIN <= self.candidate) & (self.candidate < classes))
            and np.all((0 <= self.votes) & (self.votes <= claim.n))
            and np.all(self.votes[abstains] == 0)
            and np.all(self.nan_draws >= 0)
            and np.all(abstains[self.nan_draws > 0])
        ):
            raise ValueError(f"votes of {claim.n} draws expected")
        if self.label is not None and not np.all(
            (-1 <= self.label) & (self.label < classes)
        ):
            raise ValueError(f"labels below {classes} expected")


class IntervalRecord(NamedTuple):
    """The outcome of sampling for one example with numbers as outputs.

    Attributes:
        label: float64 array of the shape of an answer, or None.
        prediction: float32 array of that shape, the median of the draws.
        lower: float32 array, shape `(radii, *answer)`.
        upper: float32 array of that shape.
        num_samples: int, draws.
        nan_draws: int, draws in which the model returned a NaN.
        time: float, seconds.
        digest: str, a hash of the example.
        rounding: float, as in `Record`.
    """

    label: np.ndarray | None
    prediction: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    num_samples: int
    nan_draws: int
    time: float
    digest: str
    rounding: float = 0.0

    def check(self, answers, claim):
        """Raises ValueError for a record that no draws can give.

        Args:
            answers: tuple of ints, the shape of an answer.
            claim: `MedianClaim`.
        """
        check_rounding(self.rounding)
        shapes = {
            "prediction": answers,
            "lower": (len(claim.radii), *answers),
            "upper": (len(claim.radii), *answers),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if (
                not isinstance(array, np.ndarray)
                or array.shape != shape
                or array.dtype != np.float32
                or np.isnan(array).any()
            ):
                raise ValueError(
                    f"{name} in float32 of shape {shape} expected, {array} "
                    "received"
                )
        # Balls and intervals grow with the radius.
        ends = np.stack((*self.lower[::-1], self.prediction, *self.upper))
        if (ends[1:] < ends[:-1]).any():
            raise ValueError("intervals inside each other expected")
        if self.num_samples != claim.n or not 0 <= self.nan_draws <= claim.n:
            raise ValueError(
                f"{claim.n} draws expected, {self.num_samples} received, of "
                f"which {self.nan_draws} gave NaN"
            )
        self.check_label(answers)

    def check_label(self, answers):
        """Raises ValueError for a label with another shape than answers."""
        if self.label is not None and (
            self.label.shape != answers or self.label.dtype != np.float64
        ):
            raise ValueError(
                f"a label of shape {answers} expected, {self.label} received"
            )


class DetectionRecord(IntervalRecord):
    """An `IntervalRecord` whose label is the true boxes of an image.

    Attributes:
        label: float64 array, shape `(true boxes, 4)`, NaN in place of missing
            boxes; or None.
    """

    __slots__ = ()

    def check_label(self, answers):
        if self.label is not None and (
            self.label.ndim != 2
            or self.label.shape[1] != 4
            or self.label.dtype != np.float64
        ):
            raise ValueError(
                f"boxes of shape (true boxes, 4) expected, {self.label} "
                "received"
            )
