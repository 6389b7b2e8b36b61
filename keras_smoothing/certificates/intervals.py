"""Certified intervals of medians, from draws."""

import dataclasses
import itertools
import math
import typing

import numpy as np

from . import checks
from .bounds import upper_rank
from .guarantee import Guarantee
from .laws import needed_probability
from .rounding import at_most


@dataclasses.dataclass(frozen=True)
class MedianClaim(Guarantee):
    """Certified intervals of medians under noise, and their proof from draws.

    For each radius r there is an interval. At every point closer than r, and at
    the example itself, all medians of the base model's output under the noise
    lie in it. This holds for any choice of the median between the smallest and
    the largest.

    The proof: let h be a coordinate of the output, P_x its law under the noise
    around the example, and M the supremum of the largest medians in the ball.
    By definition of a median m at x', P_x'(h < m) <= 1/2. By `noise.shifted`,
    an event this improbable at x' has a probability of at most
    p = `needed_probability(noise, r)` at x. Since {h < M} is a union of an
    increasing sequence of such events, P_x(h < M) <= p. The k-th smallest of
    n draws is below M only if k of them are, which has probability at most
    P(Bin(n, p) >= k). The upper end is the k-th smallest draw for the least k
    with which that is at most half of the level. This is one event for the
    whole ball. It assumes nothing about the law, which may have atoms, and h
    may be infinite. The lower end follows from the same argument for -h, with
    the other half of the level.

    A draw that is NaN may stand for any number: it counts as infinite for upper
    ends, and as minus infinite for lower ends. Ranks beyond the sample are
    infinite, too.

    Attributes:
        noise: `keras_smoothing.noise.Noise`.
        alpha: float in (0, 1), the failure probability for each example and
            radius.
        n: int, draws.
        radii: tuple of floats >= 0, increasing, in the norm and the input units
            of the noise.
        correction: "bonferroni", with probability 1 - alpha all coordinates of
            an example are in their intervals together; or None, each one is on
            its own.
        group: `keras_smoothing.groups.Group` under which the medians are
            invariant, or None.

    Raises:
        ValueError: if an attribute is not as described, or for noise without a
            radius formula.

    Reference:
    - [Chiang et al., 2020](https://arxiv.org/abs/2007.03730)
    """

    n: int
    radii: tuple
    correction: str | None = "bonferroni"
    group: typing.Any = None

    def __post_init__(self):
        super().__post_init__()
        checks.num_draws("n", self.n)
        checks.one_of("correction", self.correction, ("bonferroni", None))
        object.__setattr__(self, "radii", _radii(self.radii))
        needed_probability(self.noise, 0.0)  # Raises without a formula.

    def needed(self, rounding=0.0):
        """The probability that an event needs at x to be likely in each ball.

        Args:
            rounding: float, the largest distance of the centers of the balls
                from the x of the draws.

        Returns:
            float64 array, shape `(radii,)`.
        """
        radii = np.array(self.radii)
        if rounding:
            radii = np.nextafter(radii + rounding, np.inf)
        return needed_probability(self.noise, radii)

    @property
    def statement(self):
        """The certified statement, in words."""
        which = {
            "bonferroni": "all coordinates of an example together",
            None: "each coordinate of an example by itself",
        }[self.correction]
        alpha = at_most(self.alpha, ".6g")
        return (
            f"With probability at least 1 - {alpha}, for {which} and "
            f"each radius by itself: at every point closer than the radius "
            f"({self.distance}, in input units), and at the example itself, "
            f"all medians of the base model's output under {self.noise} lie in "
            "the interval."
        )

    def level(self, answers):
        """The failure probability of one end of one interval.

        Args:
            answers: tuple of ints, the shape of an answer.

        Returns:
            float.
        """
        together = 1 if self.correction is None else math.prod(answers)
        return self.alpha / together / 2

    def ranks(self, answers, rounding=0.0):
        """The ranks of the draws that are upper ends, counted from 1.

        The lower ends have the same ranks, counted from the largest draw.

        Args:
            answers: tuple of ints, the shape of an answer.
            rounding: float, as in `needed`.

        Returns:
            int64 array, shape `(radii,)`; n + 1 where no draw is an upper end.
        """
        return upper_rank(self.n, self.needed(rounding), self.level(answers))

    def smallest_n(self, answers):
        """The smallest numbers of draws with finite ends.

        Args:
            answers: tuple of ints, the shape of an answer.

        Returns:
            float64 array of integers, shape `(radii,)`; infinite where no
            number is enough.
        """
        level = self.level(answers)
        return np.array([_smallest_n(p, level) for p in self.needed()])

    def prove(self, outputs, rounding=0.0):
        """Medians of draws, and the intervals that the draws prove.

        Args:
            outputs: float32 array, shape `(examples, n, *answer)`; it is sorted
                in place.
            rounding: float or float64 array, shape `(examples,)`: the distance
                from the centers of the balls to the examples of the draws.

        Returns:
            median: float32 array, shape `(examples, *answer)`: the median of
                the draws, the lower one of two if their number is even. NaN
                counts as infinite.
            lower: float32 array, shape `(examples, radii, *answer)`.
            upper: float32 array of that shape.
        """
        if outputs.shape[1] != self.n:
            raise ValueError(
                f"Expected {self.n} draws. Received: {outputs.shape[1]}"
            )
        outputs.sort(axis=1)  # NaN comes last.
        num_nan = np.isnan(outputs).sum(axis=1, keepdims=True)
        rounding = np.broadcast_to(rounding, len(outputs))
        # There are few distinct values: it is 0 where nothing is rounded.
        distances, of_example = np.unique(rounding, return_inverse=True)
        ranks = [self.ranks(outputs.shape[2:], each) for each in distances]
        rank = np.array(ranks)[of_example]
        middle = np.full((len(outputs), 1), (self.n + 1) // 2)
        upper = _from_below(outputs, np.append(rank, middle, axis=1), 0)
        lower = _from_below(outputs, self.n + 1 - rank, num_nan)
        return upper[:, -1], lower, upper[:, :-1]


def _smallest_n(p, level):
    if p == 1:
        return math.inf
    # All n draws are below with probability p^n.
    about = math.ceil(math.log(level) / math.log(p))
    near = range(max(1, about - 1), about + 1)
    return next((n for n in near if upper_rank(n, p, level) <= n), about + 1)


def _from_below(outputs, rank, num_less):
    """Order statistics, if some draws count as minus infinite.

    Args:
        outputs: float32 array, shape `(examples, n, *answer)`, sorted.
        rank: int array, shape `(examples, ranks)`, in 0..n + 1, counted from 1.
        num_less: int or int array, shape `(examples, 1, *answer)`: the number
            of draws that count as minus infinite.

    Returns:
        float32 array, shape `(examples, ranks, *answer)`.
    """
    _, n, *answer = outputs.shape
    index = rank.reshape(*rank.shape, *[1] * len(answer)) - 1 - num_less
    index = np.broadcast_to(index, (*rank.shape, *answer))
    found = np.take_along_axis(outputs, np.clip(index, 0, n - 1), axis=1)
    found = np.where(np.isnan(found) | (index >= n), np.inf, found)
    return np.where(index < 0, -np.inf, found).astype(np.float32)


def _radii(radii):
    """The radii as a tuple of floats."""
    values = [radii] if np.ndim(radii) == 0 else list(radii)
    values = [checks.nonnegative_float("radii", value) for value in values]
    if not values or any(a >= b for a, b in itertools.pairwise(values)):
        raise ValueError(
            "Expected increasing `radii`, at least one. Received: "
            f"radii={radii!r}"
        )
    return tuple(values)


@dataclasses.dataclass(frozen=True)
class BoxClaim(MedianClaim):
    """A `MedianClaim` about the edges of boxes, whose labels are boxes too.

    Raises:
        ValueError: as for `MedianClaim`; for a group.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.group is not None:
            raise ValueError(
                "Expected a detector without a group, since boxes move along "
                f"with the image. Received: group={self.group}"
            )
