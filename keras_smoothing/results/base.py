import dataclasses

import keras
import numpy as np


def check_one_claim(results):
    """Raises ValueError, naming what differs, unless all results claim alike.

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
    """All that must be equal, by name."""
    description = {
        "claim": type(result.claim).__name__,
        "labels": "none" if result.label is None else "given",
    }
    # Of a six-column log no claim is known.
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

    # The class of results of each kind of claim.
    _of_claims = {}

    def __init_subclass__(cls, claim_type=None, record_type=None):
        """Makes a class that of all results of a kind of claim.

        Args:
            claim_type: class of claims, registered with Keras; or None for a
                base class.
            record_type: class of the records that such a claim is proved from:
                a `typing.NamedTuple` with a method `check`, as of `logs`.
        """
        super().__init_subclass__()
        if claim_type is not None:
            cls.record_type = record_type
            ByExample._of_claims[claim_type] = cls

    def __post_init__(self):
        # Never fewer than there are, as after `dataclasses.replace`.
        family = max(self.family or 0, len(self))
        object.__setattr__(self, "family", family)

    @classmethod
    def from_records(cls, records, claim, seed, first=0):
        """What records prove, of examples from `first` on.

        As it is here, records hold it all: their fields are those of the
        result.
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
        return cls.joined(results)

    @classmethod
    def joined(cls, results):
        """As `concatenate`, of results that are known to belong together."""
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


def result_of(claim):
    """The class of the results that hold what is proved of a claim."""
    kinds = ByExample._of_claims
    return next(kinds[kind] for kind in type(claim).mro() if kind in kinds)


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
