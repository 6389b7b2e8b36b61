import dataclasses

import numpy as np

from keras_smoothing.rounding import at_least
from keras_smoothing.rounding import at_most
from keras_smoothing.rounding import exact
from keras_smoothing.rounding import towards_zero


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What tells two runs, a and b, on the same examples apart.

    Printed, it is a table. Shares and radii are rounded down there, differences
    towards none, intervals outwards, p-values and costs up.

    Attributes:
        examples: int.
        confidence: float, of each interval by itself.
        radii: float64 array, shape `(r,)`.
        accuracy: float64 array, shape `(2, r)`: certified accuracy of a and b.
        only: int64 array, shape `(2, r)`: examples certified by a and not by b,
            and by b and not by a.
        interval: float64 array, shape `(r, 2)`: of the difference, a - b.
        p_value: float64 array, shape `(r,)`: of McNemar's exact test.
        acr: float64 array, shape `(2,)`: average certified radii.
        acr_interval: float64 array, shape `(2,)`: of their difference; NaN
            where it is not known which radius none can exceed.
        draws: float64 array, shape `(2,)`: mean draws per example; NaN where
            unknown.
        seconds: float64 array, shape `(2,)`, in all.
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
        # Of whole numbers, so that no digit is lost before it is rounded.
        return (self.only[0] - self.only[1]) / self.examples

    @property
    def acr_difference(self):
        return float(self.acr[0] - self.acr[1])

    @property
    def differs(self):
        """bool array, shape `(r,)`: by McNemar's test, each by itself."""
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
