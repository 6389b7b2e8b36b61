import dataclasses

import numpy as np
from scipy.special import ndtri

from . import checks
from .bounds import hypergeometric_upper_bound
from .bounds import lower_confidence_bound
from .classification import Claim

# How far audits must let unanimous votes reach, where their number is not
# given: a share of the radius that they prove without.
_REACH = 0.7


@dataclasses.dataclass(frozen=True)
class AuditedClaim(Claim):
    """What votes prove that a shortcut may have got wrong.

    Some draws, chosen at random and beforehand, are also voted on by the base
    model itself. Of the votes for the candidate, N_A in all, N_2 are audited,
    and m of these turn out as votes for another class. The audited ones are a
    random sample of them, whatever made the shortcut fail and however its
    votes depend on each other, so with probability 1 - level / 2 no more than
    `hypergeometric_upper_bound(m, N_2, N_A, level / 2)` of the N_A are wrong.
    The base model itself then has the others at least, whose draws are
    independent: Clopper-Pearson, at level / 2, bounds its probability.

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
        """The claim with so many audits, as of `ks.serialized.Audited`.

        Args:
            num_audited: int or None.
            noise: as of `Claim`, like all that follow.
            alpha: as there.
            stopping: as there.
            top_k: as there.
            group: as there.

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
        """How many of all draws are audited in expectation, as an int."""
        return round(self.audit_share * self.stopping.max_n)

    def radius_limit(self, num_classes):
        return super(AuditedClaim, self._at_best).radius_limit(num_classes)

    def smallest_n(self, level, num_classes):
        return super(AuditedClaim, self._at_best).smallest_n(level, num_classes)

    @property
    def _at_best(self):
        """The same, with audits that happen to be of all draws."""
        return dataclasses.replace(self, audit_share=1.0)

    def unanimous(self, num_samples, num_classes):
        votes = super().unanimous(num_samples, num_classes)
        # To the nearest: 0.0003 * 10_000 is a little less than 3.
        audited = np.rint(self.audit_share * votes.counts).astype(np.int64)
        findings = {"audited": audited, "disagreed": 0 * audited}
        return dataclasses.replace(votes, findings=findings)

    def _fewest_audits(self):
        """As many as let unanimous votes reach some share of the radius."""
        n = self.stopping.max_n
        level = float(self.alpha * self.stopping.share(n))
        most = ndtri(lower_confidence_bound(n, n, level))
        number = n
        # A tenth fewer, as long as they still reach so far.
        while number > 1:
            fewer = int(0.9 * number)
            mistakes = hypergeometric_upper_bound(0, fewer, n, level / 2)
            p_lower = lower_confidence_bound(n - mistakes, n, level / 2)
            if not ndtri(p_lower) >= _REACH * most:
                break
            number = fewer
        return number
