"""Certificates of answers with several components, from votes."""

import dataclasses
import itertools
import typing

import numpy as np
from scipy import stats

from . import checks
from .bounds import around_given
from .bounds import lower_confidence_bound
from .guarantee import Guarantee
from .laws import needed_probability
from .rounding import at_least
from .rounding import at_most


@dataclasses.dataclass(frozen=True)
class ComponentClaim(Guarantee):
    """Certificates of answers with several components. Base class.

    A subclass names a component, and is registered with Keras.

    Each component, such as a pixel or a label, has a class of its own.
    "bonferroni" divides alpha among all components of an example, whatever they
    are, and each gets the radius that its votes prove. "holm" fixes one radius
    before any vote is seen. A component is certified if its candidate is more
    probable than the tau that this radius needs. For this, p-values of binomial
    tests are compared, in increasing order, to alpha / m, alpha / (m - 1), ...
    until one is larger. Both corrections hold however the votes of components
    depend on each other, as they do if pixels share their draws.

    Attributes:
        noise: `keras_smoothing.noise.Noise`.
        alpha: float in (0, 1), the failure probability of each example, i.e.
            that any of its certificates is wrong; without correction, that a
            given one is wrong.
        n: int, draws.
        correction: "bonferroni", "holm", or None for each component on its own.
        radius: float > 0 with "holm", in input units; else None.
        group: `keras_smoothing.groups.Group` under which the smoothed model is
            invariant, or None.

    Raises:
        ValueError: if an attribute is not as described.

    Reference:
    - [Fischer, Baader and Vechev, 2021](https://arxiv.org/abs/2107.00228)
    - [Holm, 1979](https://www.jstor.org/stable/4615733)
    """

    n: int
    correction: str | None = "bonferroni"
    radius: float | None = None
    group: typing.Any = None

    component = "component"

    def __post_init__(self):
        super().__post_init__()
        checks.num_draws("n", self.n)
        checks.one_of(
            "correction", self.correction, ("bonferroni", "holm", None)
        )
        if (self.radius is None) == (self.correction == "holm"):
            raise ValueError(
                'Expected `radius` with correction="holm", and only there: it '
                "tests for one radius that is fixed beforehand. Received: "
                f"correction={self.correction!r}, radius={self.radius}"
            )
        if self.radius is not None:
            checks.positive_float("radius", self.radius)

    @property
    def statement(self):
        """What the certificates state, in sentences: str."""
        one = self.component
        whose = f"all {one}s of an example together"
        if self.correction is None:
            whose = f"each {one} on its own, and not for all together"
        radius, which = f"the radius of a {one}", f"that {one}"
        if self.radius is not None:
            radius = at_least(self.radius, ".6g")
            which = f"each {one} that is certified"
        alpha = at_most(self.alpha, ".6g")
        return (
            f"With probability at least 1 - {alpha}, for {whose}: at "
            f"every input closer to the example than {radius}, in "
            f"{self.distance} distance and in the units of the input, the "
            f"smoothed model gives {which} its predicted class. An abstention "
            f"states nothing of its {one}."
        )

    def prove(self, votes, candidate, rounding=0.0):
        """The radii that votes prove.

        Args:
            votes: int array, shape `(examples, *components)`: votes for the
                candidate among n draws that did not select it.
            candidate: int array of that shape; -1 for none.
            rounding: float or float64 array, shape `(examples,)`, as in
                `Claim.prove`.

        Returns:
            p_lower: float64 array of that shape: lower bound on the
                probability of the candidate. With "holm", the tau of the radius
                and the rounding, or 0 where it is not proved.
            radius: float64 array of that shape; 0 where nothing is proved.
        """
        # There are many pixels, but few different numbers of votes.
        votes = np.where(candidate >= 0, votes, 0)
        values, which = np.unique(votes, return_inverse=True)
        which = which.reshape(votes.shape)
        by_example = (-1, *[1] * (votes.ndim - 1))
        rounding = np.broadcast_to(rounding, len(votes)).reshape(by_example)
        if self.correction == "holm":
            # There are few distinct values: it is 0 where nothing is rounded.
            distances, of_example = np.unique(rounding, return_inverse=True)
            taus = np.array([self.tau(distance) for distance in distances])
            p_values = stats.binom.sf(values - 1, self.n, taus[:, np.newaxis])
            of_example = of_example.reshape(by_example)
            tau = taus[of_example]
            proved = _step_down(p_values[of_example, which], self.alpha)
            proved &= tau < 1
            return np.where(proved, tau, 0.0), np.where(
                proved, self.radius, 0.0
            )
        level = self.level(int(np.prod(votes.shape[1:])))
        p_lower = lower_confidence_bound(values, self.n, level)
        radius = np.where(p_lower > 0.5, self.noise.radius(p_lower), 0.0)
        return p_lower[which], around_given(radius[which], rounding)

    def tau(self, rounding=0.0):
        """The probability that a class needs for the fixed radius, as a float.

        Args:
            rounding: float, added to the radius that has to be reached.
        """
        reach = self.radius
        if rounding:
            reach = np.nextafter(self.radius + rounding, np.inf)
        return float(needed_probability(self.noise, reach))

    def level(self, components):
        """The level of the first test of an example, as a float.

        Args:
            components: int, the components of an example.
        """
        if self.correction is None:
            return self.alpha
        return self.alpha / components

    def largest_radius(self, components):
        """The radius that unanimous votes prove; the largest to fix for "holm".

        Args:
            components: int, the components of an example.

        Returns:
            float.
        """
        level = self.level(components)
        p_lower = lower_confidence_bound(self.n, self.n, level)
        return float(self.noise.radius(p_lower))

    def smallest_n(self, components):
        """The smallest number of draws that proves anything.

        Args:
            components: int, the components of an example.

        Returns:
            int, or None if no number of draws is enough.
        """
        level, tau = self.level(components), 0.5
        if self.radius is not None:
            tau = self.tau()
            if tau == 1:
                return None
        first = max(1, int(np.log(level) / np.log(tau)) - 1)
        ones = np.ones((1, components), np.int64)
        for n in itertools.count(first):
            claim = dataclasses.replace(self, n=n)
            if claim.prove(n * ones, ones)[1].any():
                return n


def _step_down(p_values, alpha):
    """Which hypotheses Holm's procedure rejects, for each example."""
    flat = p_values.reshape(len(p_values), -1)
    count = flat.shape[1]
    order = np.argsort(flat, axis=1)
    levels = alpha / np.arange(count, 0, -1)
    passed = np.take_along_axis(flat, order, axis=1) <= levels
    rejected = np.zeros(flat.shape, bool)
    # Nothing is rejected after the first that fails.
    passed = np.logical_and.accumulate(passed, axis=1)
    np.put_along_axis(rejected, order, passed, axis=1)
    return rejected.reshape(p_values.shape)


@dataclasses.dataclass(frozen=True)
class LabelClaim(ComponentClaim):
    """Certificates of several labels: whether each label is given."""

    component = "label"


@dataclasses.dataclass(frozen=True)
class PixelClaim(ComponentClaim):
    """Certificates of a mask: the class of each pixel."""

    component = "pixel"
