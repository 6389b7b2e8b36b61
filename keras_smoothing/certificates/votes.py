"""Votes, and the class that most draws vote for."""

import dataclasses

import numpy as np

from .bounds import two_sided_binomial_test
from .bounds import upper_rank
from .utils import warn_caller

ABSTAIN = -1
"""The answer of a smoothed classifier that does not decide."""


@dataclasses.dataclass(frozen=True, eq=False)
class Votes:
    """Votes and other findings in some draws, for each of some examples.

    Votes of different draws for the same examples are added with `+`. An index
    selects examples.

    Attributes:
        counts: int64 array, shape `(examples, classes)`: the votes; for answers
            with several components `(examples, *components, classes)`. A draw
            votes for no class if the model returned NaN, or if it is counted in
            the finding "unsettled".
        num_samples: int64 array, shape `(examples,)`: the number of draws.
        findings: dict from names to int64 arrays, shape `(examples,)` or
            `(examples, classes)`: other findings of a sampler, on which
            certificates may depend. They are sums over the draws, too.
    """

    counts: np.ndarray
    num_samples: np.ndarray
    findings: dict = dataclasses.field(default_factory=dict)

    @property
    def nan_draws(self):
        """Draws with a NaN output: int64 array, shape of the answers."""
        settled = self.by_component(self.num_samples - self.unsettled)
        return settled - self.counts.sum(axis=-1)

    @property
    def unsettled(self):
        """Draws whose vote is unknown: int64 array, shape `(examples,)`."""
        return self.findings.get("unsettled", np.zeros_like(self.num_samples))

    def of(self, candidate, finding=None):
        """Votes for one class of each answer; 0 for the class -1.

        Args:
            candidate: int64 array, shape `(examples,)`, or `(examples,
                *components)`.
            finding: str, the name of a finding `(examples, classes)` to read
                instead of the votes; or None.

        Returns:
            int64 array of that shape.
        """
        by_class = self.counts if finding is None else self.findings[finding]
        return np.sum(by_class, axis=-1, where=self.is_class(candidate))

    def is_class(self, candidate):
        """bool array, shape of the counts, True at the candidate's class."""
        return np.arange(self.counts.shape[-1]) == candidate[..., np.newaxis]

    def by_component(self, values):
        """Values of examples, reshaped to broadcast with their answers."""
        return values.reshape(-1, *[1] * (self.counts.ndim - 2))

    def __add__(self, other):
        return Votes(
            self.counts + other.counts,
            self.num_samples + other.num_samples,
            {
                name: found + other.findings[name]
                for name, found in self.findings.items()
            },
        )

    def __getitem__(self, which):
        return Votes(
            self.counts[which],
            self.num_samples[which],
            {name: found[which] for name, found in self.findings.items()},
        )

    @classmethod
    def concatenate(cls, parts):
        """The votes of the examples of all `parts`, in order."""
        return cls(
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.num_samples for part in parts]),
            {
                name: np.concatenate([part.findings[name] for part in parts])
                for name in parts[0].findings
            },
        )


# Share of alpha for the draws that may differ around another point. Usually
# that is one vote or none, whatever the share. The test needs the rest.
_SHARE = 0.01


def majority(votes, alpha, changed=0.0):
    """The class that most draws vote for, and where this is significant.

    If the draws were made around another point than the query, each may differ
    from the draw around the query with some probability. With a probability of
    at most a share of alpha, more than a binomial quantile of them differ. That
    quantile of votes is taken from the winner and given to the runner-up. The
    test uses the rest of alpha.

    Args:
        votes: `Votes`.
        alpha: float in (0, 1), the probability of a wrong answer; or a float64
            array, shape `(examples,)`, with one for each example.
        changed: float or float64 array, shape `(examples,)`: the probability
            that a draw would differ around the query.

    Returns:
        int64 array, shape `(examples,)` or `(examples, *components)`, and a
        bool array of that shape.
    """
    answer = np.argmax(votes.counts, axis=-1)
    ordered = np.sort(votes.counts, axis=-1)
    second, first = ordered[..., -2], ordered[..., -1]
    changed = np.broadcast_to(changed, votes.num_samples.shape)
    level = np.where(changed > 0, (1 - _SHARE) * alpha, alpha)
    moved = upper_rank(votes.num_samples, changed, _SHARE * alpha) - 1
    first = np.maximum(0, first - votes.by_component(moved))
    # An unknown vote may be for the runner-up.
    unsettled = votes.by_component(votes.unsettled + moved)
    second = np.minimum(first, second + unsettled)
    p_value = two_sided_binomial_test(first, second)
    return answer, p_value <= votes.by_component(level)


def warn_of_nan(nan_draws, index):
    """Returns where the model returned NaN; warns with the example numbers.

    Args:
        nan_draws: int array, shape `(examples,)` or `(examples, *components)`.
        index: int array, shape `(examples,)`: the numbers of the examples in
            the run.

    Returns:
        bool array of the shape of `nan_draws`.
    """
    gave_nan = nan_draws > 0
    if gave_nan.any():
        where = "" if gave_nan.ndim == 1 else "components of "
        some = gave_nan.any(axis=tuple(range(1, gave_nan.ndim)))
        warn_caller(
            "The base model returned NaN under noise (or no probabilities, "
            f"under soft voting), so the smoothed model abstains on {where}"
            f"example(s) {index[some]}.",
        )
    return gave_nan
