import dataclasses

import keras
import numpy as np

from keras_smoothing import checks
from keras_smoothing.statistics.bounds import hypergeometric_upper_bound
from keras_smoothing.statistics.bounds import lower_confidence_bound
from keras_smoothing.statistics.claim import Claim


@keras.saving.register_keras_serializable(package="keras_smoothing")
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

    def unanimous(self, num_samples, num_classes):
        votes = super().unanimous(num_samples, num_classes)
        audited = np.floor(self.audit_share * votes.counts).astype(np.int64)
        findings = {"audited": audited, "disagreed": 0 * audited}
        return dataclasses.replace(votes, findings=findings)
