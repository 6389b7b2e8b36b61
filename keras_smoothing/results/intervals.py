import abc
import dataclasses

import numpy as np

from keras_smoothing.certificates.intervals import MedianClaim
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.evaluation.tables import axes
from keras_smoothing.results.base import ByExample
from keras_smoothing.results.records import IntervalRecord


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Intervals(ByExample, abc.ABC):
    """Intervals of medians for each example and radius. Base class of results.

    Attributes: as in `IntervalResult`.
    """

    prediction: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    num_samples: np.ndarray
    nan_draws: np.ndarray
    time: np.ndarray
    digest: np.ndarray
    rounding: np.ndarray | None = None
    index: np.ndarray | None = None
    label: np.ndarray | None = None
    claim: MedianClaim | None = None
    seed: int | None = None
    family: int | None = None

    @classmethod
    def from_records(cls, records, claim, seed, first=0):
        """Intervals from records, for examples from `first` on."""
        fields = {
            name: np.array([getattr(record, name) for record in records], kind)
            for name, kind in _FIELDS.items()
        }
        labels = [record.label for record in records]
        if not any(label is None for label in labels):
            fields["label"] = np.array(labels, np.float64)
        fields["index"] = np.arange(first, first + len(records), dtype=np.int64)
        return cls(**fields, claim=claim, seed=seed)

    @property
    def radii(self):
        return np.array(self.claim.radii)

    @property
    def correction(self):
        return self.claim.correction

    @property
    def form(self):
        return {"answers": self.lower.shape[2:]}

    @property
    def width(self):
        # Where both ends are the same infinity, the width is 0.
        same = self.lower == self.upper
        return np.where(same, 0.0, self.upper - np.where(same, 0, self.lower))

    @property
    def bounded(self):
        return np.isfinite(self.lower) & np.isfinite(self.upper)

    def at(self, radius):
        """The intervals that hold within a radius.

        Args:
            radius: float, at most the largest that `certify` was asked for.
                Between two radii, the intervals are those of the larger one.

        Returns:
            lower, upper: float64 arrays, shape `(examples, *answer)`.

        Raises:
            ValueError: for a negative radius, or one beyond the largest.
        """
        which = np.searchsorted(self.radii, radius)
        if not 0 <= radius <= self.radii[-1]:
            raise ValueError(
                f"Expected a radius in [0, {self.radii[-1]}], the largest that "
                f"`certify` was asked for. Received: radius={radius}"
            )
        return self.lower[:, which], self.upper[:, which]

    def figures(self):
        """Figures of each example, for logs and progress bars, as arrays."""
        return {"bounded": _mean_of_example(self.bounded)}

    def summary(self, print_fn=print):
        """Prints a summary of the intervals, like `keras.Model.summary`.

        Args:
            print_fn: function that prints the text.
        """
        lines = [f"{len(self)} examples, {self._conditions()}"]
        if len(self):
            lines[0] += f", {at_most(self.time.sum(), '.1f')} s"
            columns = self._columns()
            lines.append(_row(["radius", *columns]))
            for i, radius in enumerate(self.radii):
                values = [column[i] for column in columns.values()]
                lines.append(_row([at_least(radius, ".4g"), *values]))
        lines.append(self.statement)
        print_fn("\n".join(lines))

    def plot(self, ax=None):
        """Plots the width of the intervals against radius.

        Args:
            ax: matplotlib axes, or None for new ones.

        Returns:
            The matplotlib axes.
        """
        ax = axes(ax)
        for name, share in (("median", 0.5), ("90 % below", 0.9)):
            widths = [quantile(self.width[:, i], share) for i in self._steps()]
            ax.plot(self.radii, widths, marker="o", label=name)
        ax.set(xlabel=f"{self.distance} radius", ylabel="width of interval")
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend()
        return ax

    def __repr__(self):
        return (
            f"<{type(self).__name__} of {len(self)} examples, "
            f"{self._conditions()}>"
        )

    @abc.abstractmethod
    def _columns(self):
        """The columns of `summary`: dict from names to a text per radius."""

    def _conditions(self):
        return (
            f"{self.noise}, {self.distance} distance, n={self.claim.n}, "
            f"alpha={self.alpha}, correction={self.correction}"
        )

    def _steps(self):
        return range(len(self.radii))


# Fields of each example beside its label, and their types.
_FIELDS = {
    "prediction": np.float64,
    "lower": np.float64,
    "upper": np.float64,
    "num_samples": np.int64,
    "nan_draws": np.int64,
    "time": np.float64,
    "digest": np.str_,
    "rounding": np.float64,
}


def quantile(values, share):
    """A quantile that is one of the values."""
    # No interpolation: one of two neighbouring values may be infinite.
    return np.quantile(values, share, method="higher")


def _mean_of_example(array):
    return array.reshape(len(array), -1).mean(axis=1)


def _row(texts):
    return " ".join(f"{text:>12}" for text in texts)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class IntervalResult(
    Intervals, claim_type=MedianClaim, record_type=IntervalRecord
):
    """Intervals of the medians of a regression, for each example and radius.

    `statement` says what is proved, in words. Ends are infinite where nothing
    is proved. The draws are not kept, so there is no `recertify`: call
    `certify` with the `alpha` and the `radii` that you need.

    Attributes:
        prediction: float64 array, shape `(examples, *answer)`: the median of
            the draws, itself one of them. It lies in every interval.
        lower: float64 array, shape `(examples, radii, *answer)`.
        upper: float64 array of that shape.
        width: float64 array of that shape.
        bounded: bool array of that shape, whether both ends are finite.
        radii: float64 array, shape `(radii,)`, in the norm and the input units
            of the noise.
        label: float64 array, shape `(examples, *answer)`, or None.
        num_samples: int64 array, shape `(examples,)`: draws.
        nan_draws: int64 array, shape `(examples,)`: draws in which the base
            model returned a NaN, which counts as the worst value.
        time: float64 array, shape `(examples,)`: seconds.
        digest: str array, shape `(examples,)`: a hash of each example.
        index: int64 array, shape `(examples,)`: the place of each example among
            those that `certify` was given.
        rounding: float64 array, shape `(examples,)`: how far rounding to
            float32 moved each example. Intervals hold in the balls around the
            example as it was passed in.
        noise: `keras_smoothing.noise.Noise`.
        alpha: float, the failure probability for each example and radius.
        correction: "bonferroni" or None, as in `SmoothedRegression.certify`.
        distance: str, what the radii measure, such as "l2".
        statement: str, what is proved.
        claim: `MedianClaim`, all of these settings.
        seed: int, the root of all draws.
        family: int, how many examples `certify` was given, even after a
            selection.

    Index a result like an array to select examples: `result[:10]`, a boolean
    mask, indices or an int. If you select examples by looking at their
    intervals, more than a share `alpha` of them may be wrong, unless
    `family_wise` was asked for.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model = ks.SmoothedRegression(base, ks.noise.Gaussian(sigma=0.25))
    x, y = np.random.rand(5, 4).astype("float32"), np.zeros((5, 2))
    result = model.certify(x, y, radii=[0.0, 0.25], n=1_000, verbose=0)
    lower, upper = result.at(0.25)
    result.certified_accuracy([0.0, 0.25], tolerance=1.0)
    result[0].summary()
    ```
    """

    def certified_error(self, radius):
        """How far medians can be from the labels, within a radius.

        Args:
            radius: float, as in `at`.

        Returns:
            float64 array, shape `(examples, *answer)`: the distance of each
            label to the farther end; infinite where that end is.

        Raises:
            ValueError: without labels, or as in `at`.
        """
        label = self.known_labels()
        lower, upper = self.at(radius)
        return np.maximum(np.abs(label - lower), np.abs(upper - label))

    def certified_accuracy(self, radii, tolerance):
        """Share of the coordinates that stay near their labels.

        Args:
            radii: float or float array, shape `(...)`, each as in `at`.
            tolerance: float >= 0, or an array that broadcasts to `(examples,
                *answer)`: how far medians may be from the labels.

        Returns:
            float for a scalar, else float64 array, shape `(...)`.

        Raises:
            ValueError: without labels, for a negative tolerance, or as in `at`.
        """
        if not np.all(np.asarray(tolerance) >= 0):
            raise ValueError(
                f"Expected a tolerance >= 0. Received: tolerance={tolerance}"
            )
        shares = [
            np.mean(self.certified_error(radius) <= tolerance)
            for radius in np.ravel(radii)
        ]
        shares = np.reshape(shares, np.shape(radii))
        return shares if shares.ndim else float(shares)

    def _columns(self):
        shares = [self.bounded[:, i].mean() for i in self._steps()]
        columns = {"bounded": [at_least(s, ".1%") for s in shares]}
        spreads = {"width": [self.width[:, i] for i in self._steps()]}
        if self.label is not None:
            spreads["error"] = [self.certified_error(r) for r in self.radii]
        for name, values in spreads.items():
            for what, share in (("median", 0.5), ("90 %", 0.9)):
                columns[f"{what} {name}"] = [
                    at_most(quantile(v, share), ".4g") for v in values
                ]
        return columns
