import dataclasses
import textwrap

import numpy as np

from keras_smoothing import evaluation
from keras_smoothing import report
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.classification import Claim
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.certificates.votes import Votes
from keras_smoothing.results.base import ByExample
from keras_smoothing.results.notebook import data_frame
from keras_smoothing.results.notebook import to_html
from keras_smoothing.results.records import Record


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CertificationResult(ByExample, claim_type=Claim, record_type=Record):
    """One certificate for each example, with summary figures.

    With probability at least `1 - alpha`, for each example on its own, the
    smoothed classifier predicts `prediction` at every point closer than
    `radius`, in the norm and the input units of the noise. With `top_k` above
    1, `prediction` is then among its `top_k` most voted classes.

    Attributes:
        prediction: int64 array, shape `(examples,)`; `ks.ABSTAIN` (-1) where
            nothing is certified.
        radius: float64 array, shape `(examples,)`; 0 where nothing is
            certified.
        time: float64 array, shape `(examples,)`: seconds.
        label: int64 array, shape `(examples,)`, or None without labels.
        correct: bool array, shape `(examples,)`; False where abstained.
        abstained: bool array, shape `(examples,)`.
        p_lower: float64 array, shape `(examples,)`: lower bound on the
            probability of the selected class.
        counts: int64 array, shape `(examples, classes)`: votes in the
            estimation draws.
        num_samples: int64 array, shape `(examples,)`: estimation draws.
        candidate: int64 array, shape `(examples,)`: the class selected by the
            first n0 draws (the label, with labels and `top_k` above 1);
            `ks.ABSTAIN` where the model returned NaN.
        scale: float64 array, shape `(examples,)`: the factor by which the noise
            of each example, and thus its radius, was multiplied. 1 unless
            `sigma` was given; the smallest factor if each coordinate has one.
        mean_scale: float64 array, shape `(examples,)`: the geometric mean of
            these factors.
        sigma: float64 array, shape `(examples,)`: the standard deviation of the
            noise of each example, `scale` times that of `noise`.
        volume_radius: float64 array, shape `(examples,)`: the radius of the
            ball with the volume of the certified region; `radius` itself
            unless there is a sigma for each coordinate.
        rounding: float64 array, shape `(examples,)`: how far rounding to
            float32 moved each example, in the norm of the noise. `radius` is
            reduced by as much: it is around the example as it was passed in.
        promises: dict of arrays, shape `(examples,)`, or None without a memory:
            the "prediction", "radius" and "alpha" that the memory has promised
            for each example; the "noise" of that promise, in words; the alpha
            that the memory had spent on queries by then ("memory_alpha"); and
            the radius that the votes alone prove for the class they select
            ("proved_radius"). In logs of earlier versions, noise is empty and
            memory_alpha is NaN. See `recertify`.
        memory_alpha: float, the sum of the alphas of all queries that the
            memory let draw, up to the last of these examples; None without a
            memory, or if not known.
        deployable: bool; False if `sigma` was chosen by the input and no memory
            was given. A certificate is then only evidence about the noise of
            its own example, and no guarantee for a deployed classifier.
        findings: dict of int64 arrays, shape `(examples,)` or `(examples,
            classes)`: counts beside the votes. Empty without serialized
            smoothing.
        digest: str array, shape `(examples,)`: a hash of each example.
        index: int64 array, shape `(examples,)`: the place of each example among
            those that `certify` was given, or the `idx` of the log.
            `evaluation.compare` pairs examples by it if digests are not known.
        noise: `keras_smoothing.noise.Noise`.
        alpha: float, the failure probability of each certificate.
        stopping: `FixedSampling` or `AdaptiveSampling`.
        top_k: int.
        distance: str, what the radius measures: "l2"; or "l2 up to
            D4('channels_last')" for the least distance to any rearrangement of
            the example; or "l2 ('image', all else fixed)" for the distance in
            one of several inputs.
        seed: int, the root of all draws; None if results with different seeds
            were joined.
        family: int, how many examples share alpha wherever it is shared: as
            many as `certify` was given, even after a selection.
        statement: str, what each certificate states, in a sentence.
        radius_limit: float, the radius that no votes can exceed under these
            settings; None if not known: without vote counts, or if `sigma` or
            a memory chose the noise of an example.

    For a six-column log, only the first four arrays, `index`, `correct` and
    `abstained` are known; the others are None.

    Index a result like an array to select examples: `result[:10]`, a boolean
    mask, indices or an int. Each certificate keeps its `alpha`, the probability
    of its failure before the draws were seen. If you select examples by looking
    at their certificates, more than that share may be wrong. Statements about
    all examples together remain true for any selection. A selection therefore
    remembers in `family` how many examples it was selected from:
    `recertify(alpha, family_wise=True)` and `certified_accuracy(radii,
    confidence)` share alpha by that number. If the examples were chosen
    beforehand, such as by their labels, `dataclasses.replace(selection,
    family=None)` makes the selection a family of its own.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x, y = np.random.rand(5, 4).astype("float32"), np.arange(5) % 3
    result = model.certify(x, y, n=1_000, seed=0, verbose=0)
    result.certified_accuracy([0.0, 0.25, 0.5])
    result.recertify(alpha=0.01).radius
    result[y == 2].radius
    ```
    """

    prediction: np.ndarray
    radius: np.ndarray
    time: np.ndarray
    label: np.ndarray | None = None
    p_lower: np.ndarray | None = None
    counts: np.ndarray | None = None
    num_samples: np.ndarray | None = None
    candidate: np.ndarray | None = None
    scale: np.ndarray | None = None
    mean_scale: np.ndarray | None = None
    rounding: np.ndarray | None = None
    promises: dict | None = None
    findings: dict | None = None
    digest: np.ndarray | None = None
    index: np.ndarray | None = None
    claim: Claim | None = None
    seed: int | None = None
    family: int | None = None

    @classmethod
    def from_records(cls, records, claim, seed, alpha=None, first=0):
        """Certificates from a list of `Record`, for examples from `first` on.

        See `from_counts`.
        """
        labels = [record.label for record in records]
        names = records[0].findings if records else ()
        return cls.from_counts(
            np.array([record.candidate for record in records], np.int64),
            np.array([record.counts for record in records], np.int64),
            np.array([record.num_samples for record in records], np.int64),
            claim,
            scale=np.array([record.scale for record in records], np.float64),
            mean_scale=np.array(
                [record.mean_scale for record in records], np.float64
            ),
            rounding=np.array(
                [record.rounding for record in records], np.float64
            ),
            alpha=alpha,
            promises=_promises(records),
            findings={
                name: np.array([record.findings[name] for record in records])
                for name in names
            },
            label=None if None in labels else np.array(labels, np.int64),
            time=np.array([record.time for record in records], np.float64),
            digest=np.array([record.digest for record in records], np.str_),
            index=np.arange(first, first + len(records), dtype=np.int64),
            seed=seed,
        )

    @classmethod
    def from_counts(
        cls,
        candidate,
        counts,
        num_samples,
        claim,
        *,
        scale=1.0,
        mean_scale=None,
        rounding=0.0,
        alpha=None,
        promises=None,
        findings=None,
        **fields,
    ):
        """Makes certificates from votes, as `claim` proves them.

        Args:
            candidate: int64 array, shape `(examples,)`.
            counts: int64 array, shape `(examples, classes)`.
            num_samples: int64 array, shape `(examples,)`.
            claim: `Claim`.
            scale: float or float64 array, shape `(examples,)`.
            mean_scale: float or float64 array of that shape, or None for
                `scale`.
            rounding: float or float64 array, shape `(examples,)`.
            alpha: float64 array, shape `(examples,)`, the alpha of each
                certificate; or None for that of the claim, or of the promise if
                a memory shares a total.
            promises: dict of arrays, or None without a memory.
            findings: dict of arrays, as in `Votes`, or None for none.
            **fields: the other attributes.

        Returns:
            `CertificationResult`.
        """
        votes = Votes(counts, num_samples, findings or {})
        scale = np.broadcast_to(np.float64(scale), candidate.shape)
        mean_scale = scale if mean_scale is None else mean_scale
        rounding = np.broadcast_to(np.float64(rounding), candidate.shape)
        p_lower, radius = np.zeros((2, len(candidate)))
        drawn = num_samples > 0  # All, except where a memory had the answer.
        if alpha is None:
            alpha = np.full(len(candidate), claim.alpha)
            if promises is not None and claim.total_alpha is not None:
                alpha = np.minimum(alpha, promises["alpha"])
        p_lower[drawn], radius[drawn] = claim.prove(
            votes[drawn],
            candidate[drawn],
            scale[drawn],
            rounding[drawn],
            alpha[drawn],
        )
        prediction = candidate
        if promises is not None:
            prediction = promises["prediction"]
            promises = {**promises, "proved_radius": radius.copy()}
            # The radius that votes prove for the same class, up to the promised
            # one; or the promise, if its alpha is no larger than the claim's.
            radius = np.minimum(radius, promises["radius"])
            radius[prediction != candidate] = 0.0
            holds = promises["alpha"] <= claim.alpha
            radius[holds] = promises["radius"][holds]
        return cls(
            prediction=np.where(radius > 0, prediction, ABSTAIN),
            radius=radius,
            p_lower=p_lower,
            counts=counts,
            num_samples=num_samples,
            candidate=candidate,
            scale=scale,
            mean_scale=np.broadcast_to(np.float64(mean_scale), scale.shape),
            rounding=rounding,
            promises=promises,
            findings=votes.findings,
            claim=claim,
            **fields,
        )

    @property
    def stopping(self):
        return self.claim and self.claim.stopping

    @property
    def top_k(self):
        return self.claim and self.claim.top_k

    @property
    def deployable(self):
        return self.claim and self.claim.deployable

    @property
    def sigma(self):
        return self.claim and self.scale * self.noise.stddev

    @property
    def volume_radius(self):
        return self.claim and self.radius * (self.mean_scale / self.scale)

    @property
    def radius_limit(self):
        if self.counts is None or self.promises is not None:
            return None
        if not self.deployable or np.any(self.mean_scale != 1):
            return None
        return self.claim.radius_limit(self.counts.shape[1])

    @property
    def memory_alpha(self):
        if self.promises is None or not len(self):
            return None
        spent = float(self.promises["memory_alpha"].max())
        return None if np.isnan(spent) else spent

    @property
    def statement(self):
        """What the certificates state, in sentences; None where not known."""
        if self.claim is None:
            return None
        return " ".join([super().statement, *self._of_the_memory()])

    @property
    def correct(self):
        """bool array; raises ValueError without labels."""
        return (self.prediction == self.known_labels()) & ~self.abstained

    @property
    def abstained(self):
        return self.prediction == ABSTAIN

    @property
    def form(self):
        return {
            "promises": "none" if self.promises is None else "given",
            "findings": sorted(self.findings or ()),
            "classes": np.shape(self.counts)[1:],
        }

    def figures(self):
        """Figures of each example for progress bars: dict of arrays.

        Empty without labels.
        """
        if self.label is None:
            return {}
        return {
            "certified_accuracy": np.float64(self.correct),
            "acr": self.radius * self.correct,
        }

    def certified_accuracy(self, radii, confidence=None):
        """Share of examples that are correct with at least a given radius.

        With a `confidence`, the share is computed from the certificates of
        `recertify(1 - confidence, family_wise=True)`. With probability at least
        `confidence` all of them are true, so the share is a lower bound on the
        true share among these examples, at all radii together, even if the
        examples share their draws or were selected by their certificates. It
        says nothing about other examples.
        After adaptive sampling it holds for the same reason as `recertify`, and
        loses the examples that stopped as soon as they reached a radius.

        Args:
            radii: float or float array, shape `(...)`, in input units.
            confidence: float in (0, 1), such as 0.99; or None.

        Returns:
            float for a scalar, else float64 array, shape `(...)`.

        Raises:
            ValueError: without labels, for negative radii, or for a
                `confidence` where `recertify` is impossible.
        """
        if confidence is not None:
            error = 1 - checks.probability("confidence", confidence)
            return self.recertify(error, family_wise=True).certified_accuracy(
                radii
            )
        return evaluation.certified_accuracy(self.radius, self.correct, radii)

    def average_certified_radius(self):
        """Mean radius, with wrong and abstained predictions as 0 (ACR).

        Raises:
            ValueError: without labels.
        """
        return evaluation.average_certified_radius(self.radius, self.correct)

    def recertify(self, alpha, family_wise=False):
        """Computes certificates from the same votes at another `alpha`.

        No new draws are needed. Each result holds at the `alpha` it was asked
        for. This does not cover picking the best of several results afterwards.

        A result holds after adaptive sampling, too, at any `alpha` that was
        fixed beforehand, larger or smaller than the one the votes were drawn
        for. Every look has its share of that `alpha` (with `top_k` above 1,
        half of it for the candidate and half for all rivals), so the bounds of
        all looks hold together, whatever made an example stop. At a smaller
        `alpha`, radii are only smaller than if one had sampled for it: examples
        that just reached an edge of the grid fall below it.

        A promise of a memory is never enlarged: no `alpha` gives a radius above
        the promised one. An example that an earlier promise answered, without
        draws of its own, abstains at an `alpha` below that promise's.

        Args:
            alpha: float in (0, 1).
            family_wise: bool, whether `alpha` is the probability that any of
                the certificates fails, instead of each (Bonferroni). It is
                shared by the `family`: after a selection, still by as many
                examples as before.

        Returns:
            `CertificationResult`.

        Raises:
            ValueError: if the counts or the noise are unknown, as in a
                six-column log.
        """
        if self.claim is None:
            raise ValueError(
                "Expected a result with vote counts and noise. Received: one "
                "without, as of a six-column log"
            )
        claim = dataclasses.replace(self.claim, alpha=alpha)
        return CertificationResult.from_counts(
            self.candidate,
            self.counts,
            self.num_samples,
            claim.shared_by(max(1, self.family)) if family_wise else claim,
            scale=self.scale,
            mean_scale=self.mean_scale,
            rounding=self.rounding,
            promises=self.promises,
            findings=self.findings,
            label=self.label,
            time=self.time,
            digest=self.digest,
            index=self.index,
            seed=self.seed,
            family=self.family,
        )

    def summary(self, radii=None, print_fn=print):
        """Prints a summary of the certificates, like `keras.Model.summary`.

        Args:
            radii: float array, shape `(r,)`, the radii of the table of
                certified accuracy; or None for the grid of adaptive sampling,
                or without it for round steps up to the largest radius.
            print_fn: function that prints the text.
        """
        lines = self._lines()
        if self.label is not None and len(self):
            if radii is None:
                radii = self._radii()
            lines.append(evaluation.table({"certified": self}, radii))
        if len(self) and self.claim is not None:
            lines += textwrap.wrap(self.statement, 80)
        print_fn("\n".join(lines))

    def plot(self, ax=None):
        """Plots certified accuracy against radius.

        Args:
            ax: matplotlib axes, or None for new ones.

        Returns:
            The matplotlib axes.

        Raises:
            ValueError: without labels.
        """
        name = repr(self.noise) if self.noise else "certified"
        ax = evaluation.plot_certified_accuracy({name: self}, ax)
        if self.noise:
            ax.set_xlabel(f"{self.distance} radius")
        return ax

    def to_html(self, path, radii=None, *, images=None):
        """Writes an HTML page with curve, tables, histograms and pictures.

        The page is self-contained: no network, no scripts. For several results
        on one page, see `ks.report.write_html`.

        Args:
            path: path of the page.
            radii: as in `summary`.
            images: float array, shape `(n, height, width, channels)`, that
                contains the examples of this result, in any order; or None for
                a page without pictures.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: without examples, or for images that are not those of
                this result.
        """
        name = repr(self.noise) if self.noise else "certified"
        radii = self._radii() if radii is None else radii
        report.write_html(path, {name: self}, radii, images=images)

    def to_dataframe(self):
        """Returns a `pandas.DataFrame` with one row for each example."""
        return data_frame(self)

    def __repr__(self):
        return (
            f"<CertificationResult of {len(self)} examples, "
            f"{self._conditions()}>"
        )

    def _repr_html_(self):
        """HTML for notebooks."""
        is_labelled = self.label is not None
        return to_html(
            self._lines(),
            "certified accuracy"
            if is_labelled
            else "share with at least this radius",
            f"{self.distance} radius" if self.claim else "radius",
            self.radius,
            self.correct if is_labelled else ~self.abstained,
            self._radii(),
        )

    def _lines(self):
        """Conditions and figures, as a list of lines."""
        lines = [f"{len(self)} examples, {self._conditions()}"]
        if len(self):
            # Abstentions are rounded up: nothing looks better than it is.
            lines.append(
                f"abstained {at_most(np.mean(self.abstained), '.1%')}, median "
                f"radius {at_least(np.median(self.radius), '.4f')}, "
                f"{at_most(self.time.sum(), '.1f')} s"
            )
            if self.num_samples is not None:
                draws = at_most(np.mean(self.num_samples), ",.0f")
                lines[-1] += f", {draws} draws per example"
            lines += self._of_scales()
            draws = max(1, self.num_samples.sum()) if self.findings else 1
            lines += [
                f"{name}: {at_most(found.sum() / draws, '.4g')} per draw"
                for name, found in (self.findings or {}).items()
            ]
        return lines

    def _of_scales(self):
        """Lines about noise chosen by the input, and about a memory."""
        lines = []
        if self.claim and np.any(self.mean_scale != 1):
            least, median, most = np.quantile(self.sigma, [0, 0.5, 1])
            least, median = (at_least(s, ".3g") for s in (least, median))
            most = at_most(most, ".3g")
            lines.append(f"sigma {least} to {most}, median {median}")
        if self.claim and np.any(self.mean_scale != self.scale):
            volume = at_least(np.median(self.volume_radius), ".4f")
            lines[-1] += f"; median radius of equal volume {volume}"
        if self.promises is not None:
            answered = np.sum(self.num_samples == 0)
            lines.append(f"{answered} answered by earlier promises")
            if self.memory_alpha is not None:
                spent = at_most(self.memory_alpha, ".6g")
                lines[-1] += f"; alphas of the memory add up to {spent}"
        return lines

    def _of_the_memory(self):
        """Sentences that a memory adds to the statement."""
        if self.promises is None:
            return []
        sentences = []
        noise = self.promises["noise"]
        other = (noise != "") & (noise != self.claim.noise_in_words)
        other &= self.promises["prediction"] != ABSTAIN
        if other.any():
            sentences.append(
                f"{np.sum(other)} of {len(self)} examples are answered by "
                "promises that were made under other noise: "
                f"{', '.join(sorted(set(noise[other])))}."
            )
        if self.memory_alpha is not None:
            spent = at_most(self.memory_alpha, ".6g")
            sentences.append(
                "A memory keeps its answers, so their failure probabilities "
                "add up: by the last of these examples the alphas of all "
                "queries that it let draw, abstentions included, were "
                f"{spent} in sum. For a sum fixed beforehand, with probability "
                "at least 1 minus that sum, all answers given within it are "
                "right."
            )
        if self.claim.total_alpha is not None:
            sentences.append(
                "The memory shares out a total: with probability at least 1 - "
                f"{self.claim.total_alpha!r}, all answers that it will ever "
                "give are right."
            )
        return sentences

    def _radii(self):
        """The radii of tables: the grid of adaptive sampling, or round ones."""
        grid = getattr(self.stopping, "radii", None)
        if grid is None:
            grid = evaluation.default_radii(self.radius.max(initial=0.0))
        return grid

    def _conditions(self):
        if self.claim is None:
            return "noise and alpha unknown"
        top = f"top {self.top_k}, " if self.top_k > 1 else ""
        return (
            f"{top}{self.noise}, {self.distance} distance, alpha={self.alpha}"
            + ("" if self.deployable else ", evidence without a memory")
        )


def _promises(records):
    """The promises of records as arrays, or None without a memory."""
    promises = [record.promise for record in records]
    if None in promises:
        return None
    return {
        "prediction": np.array([p.prediction for p in promises], np.int64),
        "radius": np.array([p.radius for p in promises], np.float64),
        "alpha": np.array([p.alpha for p in promises], np.float64),
        "noise": np.array([p.noise for p in promises], np.str_),
        # None becomes NaN.
        "memory_alpha": np.array([r.memory_alpha for r in records], np.float64),
    }
