"""Statements common to all certificates, and the draws that they need."""

import abc
import dataclasses
import math

from . import checks
from .bounds import largest_p_lower
from .laws import Law
from .rounding import at_most
from .utils import Configured
from .utils import warn_caller


@dataclasses.dataclass(frozen=True)
class Guarantee(Configured, abc.ABC):
    """The statement of certificates, and its proof from draws. Base class.

    A subclass adds the attributes that it needs. It is registered with Keras,
    so that logs can restore it.

    Attributes:
        noise: `Law` of the noise.
        alpha: float in (0, 1), the failure probability of each example.

    Raises:
        ValueError: if an attribute is not as described.
    """

    noise: Law
    alpha: float

    # The group under which certificates are invariant, or None.
    group = None

    def __post_init__(self):
        checks.instance("noise", self.noise, Law, "Gaussian(sigma=0.25)")
        checks.probability("alpha", self.alpha)

    @property
    @abc.abstractmethod
    def statement(self):
        """What the certificates state, in sentences: str."""

    @abc.abstractmethod
    def prove(self, found, *settings):
        """Computes certificates from draws, in float64 on the host.

        Args:
            found: the findings of a sampler in the draws of some examples.
            *settings: further settings that the certificates depend on.
        """

    @property
    def distance(self):
        """The distance that the radius measures, in words."""
        if self.group is None:
            return self.noise.distance
        return f"{self.noise.distance} up to {self.group}"

    def shared_by(self, examples):
        """The same guarantee, with alpha divided among all examples."""
        return dataclasses.replace(self, alpha=self.alpha / examples)


def check_can_certify(claim, num_classes):
    """Raises if no certificate is possible; warns if only small radii are.

    Args:
        claim: `Claim`.
        num_classes: int, classes of the model.

    Raises:
        ValueError: if no radius formula is known for the noise, if the model
            has no more than `top_k` classes, or if even unanimous votes prove
            nothing.
    """
    if claim.top_k >= num_classes:
        raise ValueError(
            f"Expected `top_k` below the model's {num_classes} classes. "
            f"Received: top_k={claim.top_k}"
        )
    n = claim.stopping.max_n
    level = float(claim.alpha * claim.stopping.share(n))
    largest = claim.largest_radius(n, num_classes)
    if not largest:
        check_enough(n, claim.smallest_n(level, num_classes), claim.alpha)
        raise ValueError(
            f"Expected more audits of n={n} draws at alpha={claim.alpha}: with "
            "so few every example abstains, even when all votes agree. "
            f"Received: num_audited={claim.num_audited}"
        )
    warn_of_few(n, level, claim.alpha, claim.noise, largest)


def check_can_classify(n, alpha):
    """Raises if even unanimous votes leave a prediction undecided.

    Raises:
        ValueError: if `n` is too small.
    """
    check_enough(n, smallest_n_to_classify(alpha), alpha)


def smallest_n_to_classify(level):
    """The number of unanimous votes that decides a prediction at a level."""
    # The two-sided test gives unanimous votes the p-value 2 * 2^-n.
    return math.ceil(math.log2(2 / level))


def warn_of_few(n, level, alpha, noise, largest):
    """Warns if the largest radius is less than a standard deviation.

    Args:
        n: int, draws.
        level: float in (0, 1), of the bound of one answer.
        alpha: float, or text that explains the level.
        noise: `Law`.
        largest: float, the radius that unanimous votes prove.
    """
    if largest_p_lower(n, level) < 0.84:  # About Phi(1): one sigma.
        warn_caller(
            f"n={n} draws at alpha={alpha} certify no {noise.norm} radius "
            f"above {at_most(largest, '.3g')}, even when all votes agree. See "
            "keras_smoothing.plan.",
        )


def check_enough(n, smallest, alpha):
    """Raises if there are too few draws to decide anything.

    Args:
        n: int, draws.
        smallest: int, the draws that are needed.
        alpha: float, or text that explains the level.

    Raises:
        ValueError: if `n` is below `smallest`.
    """
    if n < smallest:
        raise ValueError(
            f"Expected n >= {smallest} at alpha={alpha}: with fewer "
            "draws every example abstains, even when all votes agree. "
            f"Received: n={n}"
        )
