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
    """What was found in some draws, for each of some examples.

    Votes of different draws for the same examples are added with `+`; an index
    selects examples.

    Attributes:
        counts: int64 array, shape `(examples, classes)`: the votes; of answers
            of several components `(examples, *components, classes)`. A draw for
            which the model returned NaN votes for no class, nor does one that
            is counted among the "unsettled" of the findings.
        num_samples: int64 array, shape `(examples,)`: the draws.
        findings: dict from names to int64 arrays, shape `(examples,)` or
            `(examples, classes)`: what a sampler found beside the votes, and
            what is proved from them may depend on. Sums over the draws, too.
    """

    counts: np.ndarray
    num_samples: np.ndarray
    findings: dict = dataclasses.field(default_factory=dict)

    @property
    def nan_draws(self):
        """Draws with NaN for an output: int64 array, shape of the answers."""
        settled = self.by_component(self.num_samples - self.unsettled)
        return settled - self.counts.sum(axis=-1)

    @property
    def unsettled(self):
        """int64 array, shape `(examples,)`: draws whose vote is not known."""
        return self.findings.get("unsettled", np.zeros_like(self.num_samples))

    def of(self, candidate, finding=None):
        """Votes for one class of each answer; 0 for the class -1.

        Args:
            candidate: int64 array, shape `(examples,)`, or `(examples,
                *components)`.
            finding: str, the name of a finding `(examples, classes)` to be
                read in place of the votes; or None.

        Returns:
            int64 array of that shape.
        """
        by_class = self.counts if finding is None else self.findings[finding]
        return np.sum(by_class, axis=-1, where=self.is_class(candidate))

    def is_class(self, candidate):
        """bool array of the shape of the counts: one True in each row."""
        return np.arange(self.counts.shape[-1]) == candidate[..., np.newaxis]

    def by_component(self, values):
        """Values of each example, shaped to go with those of its answers."""
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
        """The votes of the examples of all `parts`, in their order."""
        return cls(
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.num_samples for part in parts]),
            {
                name: np.concatenate([part.findings[name] for part in parts])
                for name in parts[0].findings
            },
        )


# Of alpha, for what draws around another point may do. Most often that is one
# vote or none, whatever the share, while the test needs its own.
_SHARE = 0.01


def majority(votes, alpha, changed=0.0):
    """The class that most draws vote for, and where that is no accident.

    Draws around another point than the one that is asked about differ from
    those around that one with some probability each. But for a share of alpha,
    no more than a binomial quantile of them do. So many votes are taken from
    the winner and given to the runner-up; the test has the rest of alpha.

    Args:
        votes: `Votes`.
        alpha: float in (0, 1), probability of a wrong answer; or a float64
            array, shape `(examples,)`, of that of each.
        changed: float or float64 array, shape `(examples,)`: the probability
            with which a draw would be another at the point asked about.

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
    # A vote that is not known may be the runner-up's.
    unsettled = votes.by_component(votes.unsettled + moved)
    second = np.minimum(first, second + unsettled)
    p_value = two_sided_binomial_test(first, second)
    return answer, p_value <= votes.by_component(level)


def warn_of_nan(nan_draws, index):
    """Where the model met a NaN; warns of these examples, by their numbers.

    Args:
        nan_draws: int array, shape `(examples,)` or `(examples, *components)`.
        index: int array, shape `(examples,)`, their numbers in the run.

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
