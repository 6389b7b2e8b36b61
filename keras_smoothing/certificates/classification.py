"""Certificates of one class from votes."""

import dataclasses
import itertools
import typing

import numpy as np

from . import checks
from .bounds import around_given
from .bounds import lower_confidence_bound
from .bounds import upper_confidence_bound
from .guarantee import Guarantee
from .rounding import at_most
from .stopping import FixedSampling
from .stopping import StoppingRule
from .stopping import check_stopping
from .votes import Votes


@dataclasses.dataclass(frozen=True)
class Claim(Guarantee):
    """The statement of certificates, and its proof from votes.

    All computation is in float64, on the host. The statement: at every point
    closer than the radius, the candidate is among the `top_k` classes that the
    base model gives most often under the noise.

    A sampler that finds more than votes needs a subclass. The subclass derives
    its bound in `lower_bound` and gives the best possible findings in
    `unanimous`. If it is registered with Keras, logs restore it from its
    attributes.

    Attributes:
        noise: `Law` of the noise.
        alpha: float in (0, 1), the failure probability of each certificate.
        stopping: `StoppingRule`, which divides alpha among its looks.
        top_k: int, at least 1 and below the number of classes.
        group: the group under which the smoothed classifier is invariant, or
            its name; or None.
        classifier: str, the call that gives the certified answers; empty if it
            is not known.
        deployable: bool, whether the claim is about one and the same smoothed
            classifier at all points. It is not if the noise is chosen by the
            input and no memory keeps the promises. A certificate is then only
            evidence about the noise of its own example.
        total_alpha: float, the alpha that the queries of the memory share, if
            it has a total; else None.

    Raises:
        ValueError: if an attribute is not as described.

    Reference:
    - [Cohen, Rosenfeld and Kolter, 2019](https://arxiv.org/abs/1902.02918)
    - [Jia et al., 2020](https://arxiv.org/abs/1912.09899) for `top_k` > 1
    """

    stopping: StoppingRule
    top_k: int = 1
    group: typing.Any = None
    classifier: str = ""
    deployable: bool = True
    total_alpha: float | None = None

    def __post_init__(self):
        super().__post_init__()
        checks.positive_int("top_k", self.top_k)
        if not isinstance(self.stopping, StoppingRule):
            raise ValueError(
                "Invalid value for argument `stopping`. Expected a stopping "
                "rule, such as ks.AdaptiveSampling(radii=[0.0, 0.25]). "
                f"Received: stopping={self.stopping!r}"
            )
        check_stopping(self.stopping)
        checks.one_of("deployable", self.deployable, (True, False))
        if self.total_alpha is not None:
            checks.probability("total_alpha", self.total_alpha)

    @property
    def noise_in_words(self):
        """The noise in one line, as a `Promise` stores it."""
        return " ".join(str(self.noise).split())

    @property
    def statement(self):
        """What a certificate states, in a sentence: str."""
        answers = "answers with the predicted class"
        if self.top_k > 1:
            answers = (
                f"has the predicted class among its {self.top_k} most probable"
            )
        which = f"({self.classifier}) " if self.classifier else ""
        alpha = at_most(self.alpha, ".6g")
        statement = (
            f"With probability at least 1 - {alpha}, for each example "
            f"on its own, the smoothed classifier {which}{answers} at every "
            f"input closer than the radius, in {self.distance} distance and in "
            "the units of the input. An abstention states nothing."
        )
        if self.deployable:
            return statement
        return (
            f"{statement} It is evidence about the noise that was chosen for "
            "each example, and no promise of a classifier that chooses its "
            "noise by the input."
        )

    def prove(self, votes, candidate, scale=1.0, rounding=0.0, alpha=None):
        """The radii that votes prove.

        Args:
            votes: `Votes`.
            candidate: int64 array, shape `(examples,)`; -1 for none.
            scale: float or float array, shape `(examples,)`: how much larger
                than `noise` the noise of each example was. The radius grows by
                the same factor. If each coordinate has a scale of its own, the
                smallest: the ball of that radius lies in the certified region.
            rounding: float or float64 array, shape `(examples,)`: the distance
                from the examples that the radii are around to the examples
                that the votes were drawn for.
            alpha: float or float64 array, shape `(examples,)`: the failure
                probability of each; or None for that of the statement.

        Returns:
            p_lower: float64 array, shape `(examples,)`: lower bound on the
                probability of the candidate.
            radius: float64 array, shape `(examples,)`; 0 if nothing is proved.
        """
        check_stopping(self.stopping)  # It may have changed since.
        alpha = self.alpha if alpha is None else alpha
        level = alpha * self.stopping.share(votes.num_samples)
        if self.top_k == 1:
            p_lower = self.lower_bound(votes, candidate, level)
            radius = np.where(p_lower > 0.5, self.noise.radius(p_lower), 0.0)
            return p_lower, around_given(radius * scale, rounding)
        # All bounds must hold together: half of the level is for the candidate,
        # half for its rivals. Only the rivals with the most votes matter.
        p_lower = self.lower_bound(votes, candidate, level / 2)
        # An unknown vote may be for any rival.
        rivals = votes.counts + votes.unsettled[:, np.newaxis]
        rivals = np.where(votes.is_class(candidate), -1, rivals)
        p_upper = upper_confidence_bound(
            np.sort(rivals, axis=1)[:, -self.top_k :],
            votes.num_samples[:, np.newaxis],
            level[:, np.newaxis] / 2 / (votes.counts.shape[1] - 1),
        )
        radius = _top_k_radius(p_lower, p_upper, self.noise)
        return p_lower, around_given(radius * scale, rounding)

    def lower_bound(self, votes, candidate, level):
        """Lower bound on the probability of the candidate.

        Args:
            votes: `Votes`.
            candidate: int64 array, shape `(examples,)`; -1 for none.
            level: float64 array, shape `(examples,)`: the probability that the
                bound of an example is wrong.

        Returns:
            float64 array, shape `(examples,)`.
        """
        return lower_confidence_bound(
            votes.of(candidate), votes.num_samples, level
        )

    def largest_radius(self, num_samples, num_classes):
        """The radius that unanimous votes prove at scale 1, as a float."""
        votes = self.unanimous(num_samples, num_classes)
        return float(self.prove(votes, np.array([0]))[1][0])

    def radius_limit(self, num_classes):
        """The radius that no votes exceed at scale 1, as a float."""
        # Over all looks, since each has its own share of alpha.
        looks = self.stopping.looks
        return max(self.largest_radius(n, num_classes) for n in looks)

    def smallest_n(self, level, num_classes):
        """The smallest number of draws that proves anything at a level."""
        for n in itertools.count(1):
            claim = dataclasses.replace(
                self, alpha=level, stopping=FixedSampling(n)
            )
            if claim.largest_radius(n, num_classes):
                return n

    def unanimous(self, num_samples, num_classes):
        """The best possible votes: those of one example, all for class 0."""
        counts = np.zeros((1, num_classes), np.int64)
        counts[0, 0] = num_samples
        return Votes(counts, np.array([num_samples]))


def _top_k_radius(p_lower, p_upper, noise):
    """Distance at which a class may fall behind its k strongest rivals.

    A class that falls behind all of them also falls behind the mean of the t
    weakest, for every t.

    Args:
        p_lower: float64 array, shape `(examples,)`.
        p_upper: float64 array, shape `(examples, k)`, increasing.
        noise: `Law`.
    """
    p_lower = p_lower[:, np.newaxis]
    # Candidate and rivals are disjoint events: their probabilities sum to at
    # most 1.
    p_sum = np.minimum(np.cumsum(p_upper, axis=1), 1 - p_lower)
    t = np.arange(1, p_upper.shape[1] + 1)

    def leads(distance):
        distance = distance[:, np.newaxis]
        p_mean = (1 - noise.shifted(1 - p_sum, distance)) / t
        return np.any(noise.shifted(p_lower, distance) > p_mean, axis=1)

    low, high = np.zeros(len(p_lower)), np.full(len(p_lower), noise.stddev)
    while np.any(still := leads(high)):
        low, high = np.where(still, (high, 2 * high), (low, high))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = np.where(leads(middle), (middle, high), (low, middle))
    return low
