import dataclasses

import numpy as np

from keras_smoothing.evaluation.rounding import round_down


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
        interval = f"{100 * self.confidence:g}% interval"
        lines = [
            f"{'radius':<9} {'a':>8} {'b':>8} {'a - b':>8} {interval:>18} "
            f"{'only a':>7} {'only b':>7} {'p':>7}"
        ]
        for i, radius in enumerate(self.radii):
            shares = (f"{share:.1%}" for share in _down(self.accuracy[:, i], 3))
            lines.append(
                _row(
                    f"{radius:.6g}",
                    shares,
                    f"{_towards_0(self.difference[i], 3):+.1%}",
                    "[{:+.1%}, {:+.1%}]".format(
                        *_outwards(self.interval[i], 3)
                    ),
                )
                + "".join(f" {number:>7}" for number in self.only[:, i])
                + f" {_up(self.p_value[i], 4):>7.4f}"
                + (" *" if self.differs[i] else "")
            )
        lines.append(
            _row(
                "ACR",
                (f"{acr:.4f}" for acr in _down(self.acr, 4)),
                f"{_towards_0(self.acr_difference, 4):+.4f}",
                self._acr_interval(),
            )
        )
        draws = np.ceil(self.draws)
        draws = ("unknown" if np.isnan(n) else f"{n:,.0f}" for n in draws)
        lines.append(_row("draws", draws))
        seconds = (f"{s:,.1f}" for s in _up(self.seconds, 1))
        lines.append(_row("seconds", seconds))
        lines.append(
            f"* differ, at p <= {1 - self.confidence:.4g} for each radius by "
            "itself (McNemar, exact)"
        )
        if np.isnan(self.acr_interval).any():
            lines.append(
                "unknown without `largest_radius`, which no radius can exceed"
            )
        return "\n".join(lines)

    def _acr_interval(self):
        if np.isnan(self.acr_interval).any():
            return "unknown"
        low, high = _outwards(self.acr_interval, 4)
        return f"[{low:+.4f}, {high:+.4f}]"


def _row(name, pair, difference="", interval=None):
    a, b = pair
    line = f"{name:<9} {a:>8} {b:>8}"
    if interval is None:
        return line
    return f"{line} {difference:>8} {interval:>18}"


def _down(value, digits):
    return round_down(value, digits)


def _up(value, digits):
    return -round_down(-value, digits)


def _towards_0(value, digits):
    return np.copysign(round_down(abs(value), digits), value)


def _outwards(interval, digits):
    return _down(interval[0], digits), _up(interval[1], digits)
