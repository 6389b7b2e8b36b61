import dataclasses

import keras
import numpy as np


def check_one_claim(results):
    """Raises ValueError unless all results have one claim; names differences.

    Args:
        results: list of results.
    """
    if not results:
        raise ValueError(
            f"Expected at least one result. Received: results={results}"
        )
    serialize = keras.saving.serialize_keras_object
    first = _description(results[0])
    for i, result in enumerate(results):
        other = _description(result)
        different = [
            name
            for name in {**first, **other}
            if serialize(first.get(name, "unknown"))
            != serialize(other.get(name, "unknown"))
        ]
        if different:
            raise ValueError(
                "Expected results of one claim (`recertify` changes alpha). "
                f"Received: {_listed(first, different)} in results[0] and "
                f"{_listed(other, different)} in results[{i}]"
            )


def _description(result):
    """The settings that must be equal, by name."""
    description = {
        "claim": type(result.claim).__name__,
        "labels": "none" if result.label is None else "given",
    }
    # The claim of a six-column log is not known.
    for field in dataclasses.fields(result.claim) if result.claim else ():
        description[field.name] = getattr(result.claim, field.name)
    description["digests"] = "none" if result.digest is None else "given"
    description["indices"] = "none" if result.index is None else "given"
    return {**description, **result.form}


def _listed(description, names):
    return ", ".join(
        f"{name}={description.get(name, 'unknown')!r}" for name in names
    )


class ByExample:
    """A dataclass with a row for each example. Base class of results.

    All its fields have a row for each example, except `claim`, `seed` and
    `family`. A subclass defines `form`, a dict of the parts of the shape that
    must be equal to join results.

    Attributes:
        index: int64 array, shape `(examples,)`: the place of each example among
            those that `certify` was given, or the `idx` of the log; None if
            not known.
        family: int, how many examples share alpha wherever it is shared: as
            many as `certify` was given, even after a selection of some of them.
    """

    # The result class for each claim class.
    _of_claims = {}

    def __init_subclass__(cls, claim_type=None, record_type=None):
        """Registers a class for the results of a kind of claim.

        Args:
            claim_type: class of claims, registered with Keras; or None for a
                base class.
            record_type: class of the records that prove such a claim: a
                `typing.NamedTuple`. Logs call its method `check`, if it
                has one.
        """
        super().__init_subclass__()
        if claim_type is not None:
            cls.record_type = record_type
            ByExample._of_claims[claim_type] = cls

    def __post_init__(self):
        # At least as many as there are rows, also after `dataclasses.replace`.
        family = max(self.family or 0, len(self))
        object.__setattr__(self, "family", family)

    @classmethod
    def from_records(cls, records, claim, seed, first=0):
        """The result that records prove, for examples from `first` on.

        This version is for records whose fields are those of the result.
        """
        fields = {
            name: np.array([getattr(record, name) for record in records])
            for name in cls.record_type._fields
        }
        if records[0].label is None:
            fields["label"] = None
        index = np.arange(first, first + len(records), dtype=np.int64)
        return cls(**fields, index=index, claim=claim, seed=seed)

    @classmethod
    def concatenate(cls, results):
        """Joins several results of one model and one claim.

        If the seeds are equal, all examples share their draws, and the result
        has that seed. Otherwise its seed is None, since no single seed
        reproduces the draws. Each certificate keeps its `alpha`. If alpha was
        shared by the examples of each part (`family_wise`), the failure
        probabilities of the parts add up. The families add up, too, even if the
        parts were selected from one result. Each example keeps its `index`: for
        parts of one dataset that were certified separately, pass
        `dataclasses.replace(part, index=...)`.

        Args:
            results: list of results of this kind, all with labels or all
                without. They do not record which model they belong to.

        Returns:
            a result of this kind.

        Raises:
            ValueError: if there are none, if they differ in their claim, in the
                shape of the answers or the names of the findings, or if only
                some of them are read from six-column logs.
        """
        results = list(results)
        check_one_claim(results)
        return cls.joined(results)

    @classmethod
    def joined(cls, results):
        """Like `concatenate`, for results that are known to fit together."""
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
        """What the certificates state, in sentences; None if not known."""
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
        """The labels; raises ValueError if there are none."""
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


def result_of(claim):
    """The result class for a claim."""
    kinds = ByExample._of_claims
    return next(kinds[kind] for kind in type(claim).mro() if kind in kinds)


def _of_examples(kind):
    """Names of the fields with a row for each example."""
    names = {field.name for field in dataclasses.fields(kind)}
    return names - {"claim", "seed", "family"}


def _combined(function, fields):
    """`function` of arrays, or of each array in dicts; None if unknown."""
    if fields[0] is None:
        return None
    if isinstance(fields[0], dict):
        return {
            name: function(*(field[name] for field in fields))
            for name in fields[0]
        }
    return function(*fields)
