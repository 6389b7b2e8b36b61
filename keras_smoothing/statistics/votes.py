import dataclasses

import numpy as np

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
            `(examples, classes)`: what a counter found beside the votes, and
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
