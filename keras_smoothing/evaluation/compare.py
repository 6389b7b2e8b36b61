import dataclasses

import numpy as np
from scipy import stats

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.rounding import exact
from keras_smoothing.certificates.rounding import towards_zero
from keras_smoothing.evaluation.certified_accuracy import (
    average_certified_radius,
)
from keras_smoothing.evaluation.certified_accuracy import certified_accuracy
from keras_smoothing.evaluation.certified_accuracy import check_one_radius
from keras_smoothing.evaluation.certified_accuracy import default_radii
from keras_smoothing.evaluation.mean_intervals import mean_interval
from keras_smoothing.evaluation.mean_intervals import paired_interval
from keras_smoothing.evaluation.pairing import paired
from keras_smoothing.evaluation.tables import one_distance

# A recomputed limit may differ in its last digits.
_ROUNDING = 1 + 1e-9


def compare(a, b, radii=None, confidence=0.95, largest_radius=None):
    """Compares two runs on the same examples, with intervals and tests.

    Examples are paired by their digests; by `index` if a run has no digests (as
    from a six-column log); and by rows if a run has neither. `certify` numbers
    its examples from 0. If they were every 20th of a data set, and the other
    run uses the data set's numbers, pass
    `dataclasses.replace(a, index=20 * a.index)`.

    Most examples are certified by both runs or by neither; only the others
    distinguish the runs. Therefore paired intervals and tests detect
    differences that separate intervals for each run do not.

    At each radius, McNemar's exact test asks whether the examples certified by
    only one run are as often certified by a as by b. Tango's score interval
    covers the difference of certified accuracies. Unlike a bootstrap, it is
    meaningful even if no example distinguishes the runs. It is approximate: at
    a confidence of 0.95, with 20 to 200 examples, it covers the difference
    with a probability of 0.93 or more.

    The interval of the difference in ACR is a betting interval. It covers the
    difference with the stated confidence, whatever the distribution of the
    differences: even if a few examples that were not drawn differ by much. For
    this it needs a bound on radii that was known beforehand. The settings of a
    run determine which radius unanimous votes prove. If they are unknown
    (six-column logs), or if the noise was chosen for each example, pass
    `largest_radius`.

    All intervals and tests assume that the examples were drawn independently
    from the distribution of further examples. They take models, settings and
    draws as fixed. Examples selected by their certificates violate the
    assumption, and so do certificates of a memory, which depend on earlier
    examples. So the comparison says which run certifies more of such examples,
    whether draws are shared or not. It does not account for the probability
    `alpha` that a certificate fails. Tests at several radii are not corrected
    for multiple testing.

    Args:
        a: `CertificationResult` with labels.
        b: `CertificationResult`, of the same examples in any order, and of the
            same distance.
        radii: float array, shape `(r,)`; or None for round steps up to the
            largest radius.
        confidence: float in (0, 1), of each interval by itself.
        largest_radius: float >= 0 that no radius of either run could have
            exceeded, or two floats, for a and b; or None for the bound that
            each run's settings imply. If they imply none, the interval of ACR
            is NaN. For other runs without audits, `ks.plan` returns it as
            `largest_radius`. It is not the largest observed radius.

    Returns:
        `Comparison`, which prints as a table.

    Raises:
        ValueError: if the results are of different examples or have different
            labels (naming the first that differs); if an example occurs twice;
            for fewer than two examples, missing labels or different distances;
            and for radii above `largest_radius`.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    label = np.arange(100) % 10
    time = np.ones(100)
    a = ks.CertificationResult(label, np.full(100, 0.5), time, label=label)
    b = ks.CertificationResult(label, label / 10, time, label=label)
    print(
        ks.evaluation.compare(a, b, radii=[0.0, 0.25, 0.5], largest_radius=0.95)
    )
    ```
    """
    checks.probability("confidence", confidence)
    one_distance([a, b])
    _check(a, b)
    a, b = paired(a, b)
    if radii is None:
        radii = default_radii(max(a.radius.max(), b.radius.max()))
    radii = np.atleast_1d(np.asarray(radii, np.float64))
    pair = (a, b)
    reached = [r.correct & (r.radius >= radii[:, np.newaxis]) for r in pair]
    only = np.array(
        [
            np.sum(reached[0] & ~reached[1], axis=1),
            np.sum(reached[1] & ~reached[0], axis=1),
        ]
    )
    gains = np.subtract(*(np.where(r.correct, r.radius, 0.0) for r in pair))
    limits = _radius_limits(pair, largest_radius)
    return Comparison(
        examples=len(a),
        confidence=confidence,
        radii=radii,
        accuracy=np.array(
            [certified_accuracy(r.radius, r.correct, radii) for r in pair]
        ),
        only=only,
        interval=np.array(
            [paired_interval(*pairs, len(a), confidence) for pairs in only.T]
        ),
        p_value=np.array([_mcnemar(*pairs) for pairs in only.T]),
        acr=np.array(
            [average_certified_radius(r.radius, r.correct) for r in pair]
        ),
        acr_interval=_acr_interval(gains, limits, confidence),
        draws=np.array([_mean_draws(r) for r in pair]),
        seconds=np.array([np.sum(r.time) for r in pair]),
    )


def _radius_limits(pair, largest_radius):
    """Returns an upper limit of each run's radii; None if unknown."""
    if largest_radius is None:
        limits = [result.radius_limit for result in pair]
    else:
        if np.shape(largest_radius) not in ((), (1,), (2,)):
            raise ValueError(
                "Expected one number `largest_radius`, or two. Received: "
                f"largest_radius={largest_radius}"
            )
        limits = [
            checks.nonnegative_float("largest_radius", limit)
            for limit in np.broadcast_to(largest_radius, 2).tolist()
        ]
    for result, limit in zip(pair, limits, strict=True):
        if limit is not None and result.radius.max() > limit * _ROUNDING:
            raise ValueError(
                f"Expected no radius above {limit}, the largest that there can "
                f"be. Received: a radius of {result.radius.max()}"
            )
    return limits


def _acr_interval(gains, limits, confidence):
    if None in limits:
        return np.full(2, np.nan)
    most_a, most_b = (limit * _ROUNDING for limit in limits)
    return np.array(mean_interval(gains, -most_b, most_a, confidence))


def _mcnemar(only_a, only_b):
    if not only_a + only_b:
        return 1.0
    return stats.binomtest(int(only_a), int(only_a + only_b)).pvalue


def _mean_draws(result):
    if result.num_samples is None:
        return np.nan
    return np.mean(result.num_samples)


def _check(a, b):
    for result in (a, b):
        check_one_radius(getattr(result, "radius", None))
        if result.label is None:
            raise ValueError(
                "Expected results with labels. Received: one without"
            )
    if len(a) < 2:
        raise ValueError(
            f"Expected results of two examples at least. Received: {len(a)}"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The differences between two runs, a and b, on the same examples.

    It prints as a table. The table rounds shares and radii down, differences
    towards zero, intervals outwards, and p-values and costs up.

    Attributes:
        examples: int, the number of examples.
        confidence: float, of each interval by itself.
        radii: float64 array, shape `(r,)`.
        accuracy: float64 array, shape `(2, r)`: certified accuracy of a and b.
        only: int64 array, shape `(2, r)`: the number of examples certified by a
            but not by b, and by b but not by a.
        interval: float64 array, shape `(r, 2)`: for the difference a - b.
        p_value: float64 array, shape `(r,)`: of McNemar's exact test.
        acr: float64 array, shape `(2,)`: average certified radii.
        acr_interval: float64 array, shape `(2,)`: for their difference; NaN if
            no upper limit of the radii is known.
        draws: float64 array, shape `(2,)`: mean draws per example; NaN if
            unknown.
        seconds: float64 array, shape `(2,)`, total time.
    """

    examples: int
    confidence: float
    radii: np.ndarray
    accuracy: np.ndarray
    only: np.ndarray
    interval: np.ndarray
    p_value: np.ndarray
    acr: np.ndarray
    acr_interval: np.ndarray
    draws: np.ndarray
    seconds: np.ndarray

    @property
    def difference(self):
        """Certified accuracy of a minus that of b, shape `(r,)`."""
        # From integers, so that no digit is lost before rounding.
        return (self.only[0] - self.only[1]) / self.examples

    @property
    def acr_difference(self):
        return float(self.acr[0] - self.acr[1])

    @property
    def differs(self):
        """bool array, shape `(r,)`: by McNemar's test at each radius."""
        return self.p_value <= 1 - self.confidence

    def __str__(self):
        confidence = exact(self.confidence)
        interval = f"{at_least(100 * confidence, '.6g')}% interval"
        lines = [
            f"{'radius':<9} {'a':>8} {'b':>8} {'a - b':>8} {interval:>18} "
            f"{'only a':>7} {'only b':>7} {'p':>7}"
        ]
        for i, radius in enumerate(self.radii):
            lines.append(
                _row(
                    at_least(radius, ".6g"),
                    (at_least(share, ".1%") for share in self.accuracy[:, i]),
                    towards_zero(self.difference[i], "+.1%"),
                    _outwards(self.interval[i], "+.1%"),
                )
                + "".join(f" {number:>7}" for number in self.only[:, i])
                + f" {at_most(self.p_value[i], '.4f'):>7}"
                + (" *" if self.differs[i] else "")
            )
        lines.append(
            _row(
                "ACR",
                (at_least(acr, ".4f") for acr in self.acr),
                towards_zero(self.acr_difference, "+.4f"),
                _outwards(self.acr_interval, "+.4f"),
            )
        )
        draws = (
            "unknown" if np.isnan(n) else at_most(n, ",.0f") for n in self.draws
        )
        lines.append(_row("draws", draws))
        seconds = (at_most(s, ",.1f") for s in self.seconds)
        lines.append(_row("seconds", seconds))
        lines.append(
            f"* differ, at p <= {at_most(1 - confidence, '.4g')} for each "
            "radius by itself (McNemar, exact)"
        )
        if np.isnan(self.acr_interval).any():
            lines.append(
                "unknown without `largest_radius`, which no radius can exceed"
            )
        return "\n".join(lines)


def _row(name, pair, difference="", interval=None):
    a, b = pair
    line = f"{name:<9} {a:>8} {b:>8}"
    if interval is None:
        return line
    return f"{line} {difference:>8} {interval:>18}"


def _outwards(interval, spec):
    if np.isnan(interval).any():
        return "unknown"
    return f"[{at_least(interval[0], spec)}, {at_most(interval[1], spec)}]"
