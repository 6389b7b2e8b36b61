import dataclasses

import numpy as np

from keras_smoothing.results.concatenation import check_one_claim


class ByExample:
    """A dataclass of what is known of each example. Base class of results.

    All its fields have a row for each example, but for `claim`, `seed` and
    `family`. A subclass says in `form` what of the shape of results must be
    equal to join them: a dict.

    Attributes:
        index: int64 array, shape `(examples,)`: which example each row is of,
            by its place among those that `certify` was given, or by the `idx`
            of the log; None where it is not known.
        family: int, how many examples share alpha wherever it is shared: those
            that `certify` was given, also after a selection of some of them.
    """

    def __post_init__(self):
        # Never fewer than there are, as after `dataclasses.replace`.
        family = max(self.family or 0, len(self))
        object.__setattr__(self, "family", family)

    @classmethod
    def concatenate(cls, results):
        """The certificates of several results of one model and one claim.

        Where the seeds are equal, so that all examples share their draws, the
        result has that seed; else its seed is None, since no single one gives
        these draws again. Each certificate keeps its `alpha`; where that was
        shared out over the examples of each part (`family_wise`), the
        probabilities of the parts add up. So do their families, also where
        the parts were selected from one result. Each example keeps its
        `index`: for parts of one data set that were certified by themselves,
        pass `dataclasses.replace(part, index=...)`.

        Args:
            results: list of results of this kind, all with labels or all
                without. Which model they are of is not recorded in them.

        Returns:
            a result of this kind.

        Raises:
            ValueError: if there are none, or if they differ in what is
                claimed, in the shape of the answers or the names of the
                findings, or are read from six-column logs in part only.
        """
        results = list(results)
        check_one_claim(results)
        seeds = {result.seed for result in results}
        return cls(
            **{
                name: _combined(
                    lambda *arrays: np.concatenate(arrays),
                    [getattr(result, name) for result in results],
                )
                for name in _of_examples(cls)
            },
            claim=results[0].claim,
            seed=seeds.pop() if len(seeds) == 1 else None,
            family=sum(result.family for result in results),
        )

    @property
    def noise(self):
        return self.claim and self.claim.noise

    @property
    def alpha(self):
        return self.claim and self.claim.alpha

    @property
    def distance(self):
        return self.claim and self.claim.distance

    @property
    def statement(self):
        """What the certificates state, in sentences; None where not known."""
        if self.claim is None:
            return None
        if self.family == len(self):
            return self.claim.statement
        return (
            f"{self.claim.statement} If these {len(self)} examples were chosen "
            "by looking at certificates, it holds for them only where alpha "
            f"is shared by the {self.family} that they were chosen from, as by "
            "`family_wise=True`."
        )

    def known_labels(self):
        """The labels; raises ValueError without."""
        if self.label is None:
            raise ValueError(
                "Expected a result with labels. Received: one without; pass "
                "`y` to `certify`."
            )
        return self.label

    def __len__(self):
        return len(self.prediction)

    def __getitem__(self, which):
        which = np.atleast_1d(np.arange(len(self))[which])
        if which.ndim > 1:
            raise IndexError(
                "Expected a slice, a boolean mask, integers or an integer. "
                f"Received: indices of shape {which.shape}"
            )
        return type(self)(
            **{
                name: _combined(lambda a: a[which], [getattr(self, name)])
                for name in _of_examples(type(self))
            },
            claim=self.claim,
            seed=self.seed,
            family=self.family,
        )


def _of_examples(kind):
    """Names of the fields with a row for each example."""
    names = {field.name for field in dataclasses.fields(kind)}
    return names - {"claim", "seed", "family"}


def _combined(function, fields):
    """`function` of arrays, of those in dicts, or None of what is unknown."""
    if fields[0] is None:
        return None
    if isinstance(fields[0], dict):
        return {
            name: function(*(field[name] for field in fields))
            for name in fields[0]
        }
    return function(*fields)
