from typing import NamedTuple

import numpy as np

from keras_smoothing.results.record import check_rounding
from keras_smoothing.statistics.votes import ABSTAIN


class ComponentRecord(NamedTuple):
    """What is known of the components of one example after sampling.

    Attributes:
        label: int32 array, shape `(*components,)`; -1 where none is known; or
            None.
        candidate: int32 array of that shape, the classes selected; `ABSTAIN`
            where the model returned NaN, and at padding.
        votes: int32 array of that shape, those for the candidates.
        nan_draws: int32 array of that shape, draws with NaN for an output.
        num_samples: int, draws of the estimate.
        time: float, seconds.
        digest: str, a hash of the example.
        rounding: float, as of `Record`.
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
        """Raises ValueError for what no sampling gives.

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
