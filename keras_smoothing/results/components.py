import dataclasses
import textwrap
import types

import numpy as np

from keras_smoothing import evaluation
from keras_smoothing.certificates.components import ComponentClaim
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.results.base import ByExample


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ComponentResult(ByExample):
    """A certificate for each component of each example. Base class."""

    prediction: np.ndarray
    radius: np.ndarray
    p_lower: np.ndarray
    candidate: np.ndarray
    votes: np.ndarray
    nan_draws: np.ndarray
    num_samples: np.ndarray
    time: np.ndarray
    label: np.ndarray | None
    digest: np.ndarray
    claim: ComponentClaim
    seed: int | None
    rounding: np.ndarray | None = None
    index: np.ndarray | None = None
    family: int | None = None

    @classmethod
    def from_records(cls, records, claim, seed, first=0):
        """Certificates from records, for examples from `first` on."""
        labels = [record.label for record in records]
        return cls.from_votes(
            np.stack([record.candidate for record in records]),
            np.stack([record.votes for record in records]),
            claim,
            nan_draws=np.stack([record.nan_draws for record in records]),
            num_samples=np.array([r.num_samples for r in records], np.int64),
            time=np.array([record.time for record in records], np.float64),
            label=None if labels[0] is None else np.stack(labels),
            digest=np.array([record.digest for record in records], np.str_),
            seed=seed,
            rounding=np.array([r.rounding for r in records], np.float64),
            index=np.arange(first, first + len(records), dtype=np.int64),
        )

    @classmethod
    def from_votes(cls, candidate, votes, claim, *, rounding=0.0, **fields):
        """Makes certificates from votes, as `claim` proves them.

        Args:
            candidate: int array, shape `(examples, *components)`.
            votes: int array of that shape, the votes for the candidates.
            claim: `ComponentClaim`.
            rounding: float or float64 array, shape `(examples,)`.
            **fields: the other attributes.
        """
        rounding = np.broadcast_to(np.float64(rounding), len(candidate))
        p_lower, radius = claim.prove(votes, candidate, rounding)
        return cls(
            prediction=np.where(radius > 0, candidate, ABSTAIN),
            radius=radius,
            p_lower=p_lower,
            candidate=candidate,
            votes=votes,
            claim=claim,
            rounding=rounding,
            **fields,
        )

    @property
    def labelled(self):
        """bool array of the components that count; ValueError without labels.

        Components with the label -1 do not count.
        """
        return self.known_labels() >= 0

    @property
    def correct(self):
        """bool array; raises ValueError without labels."""
        return self.labelled & (self.prediction == self.label)

    @property
    def abstained(self):
        return self.prediction == ABSTAIN

    @property
    def form(self):
        return {"components": self.prediction.shape[1:]}

    def figures(self):
        """Figures of each example, for progress bars and logs, as arrays."""
        figures = {
            "certified": _mean(~self.abstained, True),
            "mean_radius": _mean(self.radius, True),
        }
        if self.label is not None:
            figures["certified_accuracy"] = _mean(self.correct, self.labelled)
        return figures

    def certified_accuracy(self, radii):
        """Share of components that are correct with at least a given radius.

        Components with the label -1 do not count.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float for a scalar, else float64 array, shape `(...)`.

        Raises:
            ValueError: without labels, or for negative radii.
        """
        labelled = self.labelled
        return evaluation.certified_accuracy(
            self.radius[labelled], self.correct[labelled], radii
        )

    def recertify(
        self, alpha, family_wise=False, *, correction="bonferroni", radius=None
    ):
        """Computes certificates from the same votes for another claim.

        No new draws are needed. Each result holds for a claim that was chosen
        beforehand. It does not cover picking the best of several `alpha`,
        `correction` or `radius` by looking at their results.

        Args:
            alpha: float in (0, 1).
            family_wise: bool, as in `certify`; alpha is shared by the
                `family`, after a selection still by as many examples as before.
            correction: as in `certify`.
            radius: as in `certify`.

        Returns:
            a result of this kind.

        Raises:
            ValueError: as in `certify`, for these arguments.
        """
        claim = dataclasses.replace(
            self.claim, alpha=alpha, correction=correction, radius=radius
        )
        if family_wise:
            claim = claim.shared_by(max(1, self.family))
        kept = ("nan_draws", "num_samples", "time", "label", "digest")
        kept += ("seed", "rounding", "index", "family")
        return self.from_votes(
            self.candidate,
            self.votes,
            claim,
            **{name: getattr(self, name) for name in kept},
        )

    def summary(self, radii=None, print_fn=print):
        """Prints a summary of the certificates, and what they state.

        Args:
            radii: float array, shape `(r,)`, the radii of the table; or None
                for round steps up to the largest radius.
            print_fn: function that prints the text.
        """
        lines = [f"{len(self)} examples {self._conditions()}"]
        if len(self):
            # Abstentions are rounded up: nothing looks better than it is.
            abstained = at_most(np.mean(self.abstained), ".1%")
            lines.append(
                f"abstained {abstained} of {self.claim.component}s, median "
                f"radius {at_least(np.median(self.radius), '.4f')}, "
                f"{at_most(self.time.sum(), '.1f')} s, "
                f"{at_most(np.mean(self.num_samples), ',.0f')} draws per "
                "example"
            )
        if self.label is not None and self.labelled.any():
            if radii is None:
                radii = evaluation.default_radii(self.radius.max())
            lines += self._table(np.asarray(radii, np.float64))
        lines += textwrap.wrap(self.statement, 80)
        print_fn("\n".join(lines))

    def plot(self, ax=None):
        """Plots certified accuracy of components against radius.

        Args:
            ax: matplotlib axes, or None for new ones.

        Returns:
            The matplotlib axes.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: without labels.
        """
        labelled = self.labelled
        counted = types.SimpleNamespace(
            radius=self.radius[labelled], correct=self.correct[labelled]
        )
        ax = evaluation.plot_certified_accuracy({repr(self.noise): counted}, ax)
        ax.set_xlabel(f"{self.distance} radius")
        ax.set_ylabel(f"certified accuracy of {self.claim.component}s")
        return ax

    def __repr__(self):
        return (
            f"<{type(self).__name__} of {len(self)} examples "
            f"{self._conditions()}>"
        )

    def _measures(self):
        """The rows of the table, by name: functions of radii."""
        measures = {"certified accuracy": self.certified_accuracy}
        if self.claim.correction is not None:
            measures |= self._joint_measures()
        return measures

    def _joint_measures(self):
        """The `_measures` that are about components together."""
        return {}

    def _check_joint(self):
        """Raises if the certificates of components do not hold together."""
        if self.claim.correction is None:
            raise ValueError(
                'Expected certificates with correction="bonferroni" or "holm", '
                f"since this is about {self.claim.component}s together. "
                "Received: correction=None. `recertify` needs no new draws"
            )

    def _table(self, radii):
        measures = self._measures()
        width = max(map(len, measures))
        headings = "".join(f" {at_least(r, '.4g'):>7}" for r in radii)
        lines = [f"{'radius':<{width}}{headings}"]
        for name, measure in measures.items():
            shares = (at_least(share, ".1%") for share in measure(radii))
            lines.append(
                f"{name:<{width}}" + "".join(f" {s:>7}" for s in shares)
            )
        return lines

    def _conditions(self):
        size = " x ".join(map(str, self.prediction.shape[1:]))
        correction = self.claim.correction or "no correction"
        return (
            f"of {size} {self.claim.component}s, {self.noise}, {self.distance} "
            f"distance, alpha={self.alpha}, {correction}"
        )


def _mean(values, counted):
    """The mean over components of each example; 0 if none counts."""
    counted = np.broadcast_to(counted, values.shape)
    axes = tuple(range(1, values.ndim))
    return np.sum(values, axes) / np.maximum(1, np.sum(counted, axes))
