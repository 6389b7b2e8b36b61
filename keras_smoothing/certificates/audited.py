import dataclasses

import numpy as np
from scipy.special import ndtri

from . import checks
from .bounds import hypergeometric_upper_bound
from .bounds import lower_confidence_bound
from .classification import Claim

# If the number of audits is not given, there are enough for unanimous votes to
# prove this share of the radius that they would prove without audits.
_REACH = 0.7


@dataclasses.dataclass(frozen=True)
class AuditedClaim(Claim):
    """Certificates from votes of a shortcut that may be wrong.

    The base model itself also votes on some draws, which are chosen at random
    and beforehand. Suppose that the candidate has N_A votes, that N_2 of them
    are audited, and that m of these turn out to be votes for another class.
    The audited votes are a random sample of the N_A, whatever made the shortcut
    fail and however its votes depend on each other. So with probability
    1 - level / 2 no more than
    `hypergeometric_upper_bound(m, N_2, N_A, level / 2)` of the N_A are wrong.
    The base model itself then gives the candidate at least the other votes. Its
    draws are independent, so Clopper-Pearson, at level / 2, bounds the
    candidate's probability.

    Attributes:
        audit_share: float in (0, 1], the probability that a draw is audited.

    Raises:
        ValueError: as for `Claim`; for `top_k` above 1.
    """

    audit_share: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        checks.positive_share("audit_share", self.audit_share)
        if self.top_k > 1:
            raise ValueError(
                "Expected top_k=1 with audited votes, whose mistakes may be "
                f"votes for any rival. Received: top_k={self.top_k}"
            )

    @classmethod
    def of(cls, num_audited, noise, alpha, stopping, top_k=1, group=None):
        """The claim with a number of audits, as in `ks.serialized.Audited`.

        Args:
            num_audited: int or None.
            noise: as in `Claim`, like all that follow.
            alpha: as in `Claim`.
            stopping: as in `Claim`.
            top_k: as in `Claim`.
            group: as in `Claim`.

        Raises:
            ValueError: for more audits than draws.
        """
        claim = cls(noise, alpha, stopping, top_k, group)
        n = stopping.max_n
        if num_audited is None:
            num_audited = claim._fewest_audits()
        elif num_audited > n:
            raise ValueError(
                "Expected `num_audited` of at most the number of draws, "
                f"{n}. Received: num_audited={num_audited}"
            )
        return dataclasses.replace(claim, audit_share=num_audited / n)

    def lower_bound(self, votes, candidate, level):
        count = votes.of(candidate)
        mistakes = hypergeometric_upper_bound(
            votes.of(candidate, "disagreed"),
            votes.of(candidate, "audited"),
            count,
            level / 2,
        )
        return lower_confidence_bound(
            count - mistakes, votes.num_samples, level / 2
        )

    @property
    def num_audited(self):
        """The expected number of audited draws, as an int."""
        return round(self.audit_share * self.stopping.max_n)

    def radius_limit(self, num_classes):
        return super(AuditedClaim, self._at_best).radius_limit(num_classes)

    def smallest_n(self, level, num_classes):
        return super(AuditedClaim, self._at_best).smallest_n(level, num_classes)

    @property
    def _at_best(self):
        """The same claim for the case that all draws happen to be audited."""
        return dataclasses.replace(self, audit_share=1.0)

    def unanimous(self, num_samples, num_classes):
        votes = super().unanimous(num_samples, num_classes)
        # Rounded to the nearest: 0.0003 * 10_000 is a little less than 3.
        audited = np.rint(self.audit_share * votes.counts).astype(np.int64)
        findings = {"audited": audited, "disagreed": 0 * audited}
        return dataclasses.replace(votes, findings=findings)

    def _fewest_audits(self):
        """Audits with which unanimous votes prove `_REACH` of the radius."""
        n = self.stopping.max_n
        level = float(self.alpha * self.stopping.share(n))
        most = ndtri(lower_confidence_bound(n, n, level))
        number = n
        # Take a tenth fewer, as long as they still reach that far.
        while number > 1:
            fewer = int(0.9 * number)
            mistakes = hypergeometric_upper_bound(0, fewer, n, level / 2)
            p_lower = lower_confidence_bound(n - mistakes, n, level / 2)
            if not ndtri(p_lower) >= _REACH * most:
                break
            number = fewer
        return number
