from typing import NamedTuple

import numpy as np

from keras_smoothing.results.record import check_rounding


class IntervalRecord(NamedTuple):
    """What is known of one example after sampling, where answers are numbers.

    Attributes:
        label: float64 array of the shape of an answer, or None.
        prediction: float32 array of that shape, the median of the draws.
        lower: float32 array, shape `(radii, *answer)`.
        upper: float32 array of that shape.
        num_samples: int, draws.
        nan_draws: int, draws in which the model returned a NaN.
        time: float, seconds.
        digest: str, a hash of the example.
        rounding: float, as of `Record`.
    """

    label: np.ndarray | None
    prediction: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    num_samples: int
    nan_draws: int
    time: float
    digest: str
    rounding: float = 0.0

    def check(self, answers, claim):
        """Raises ValueError for what no draws can give.

        Args:
            answers: tuple of ints, the shape of an answer.
            claim: `MedianClaim`.
        """
        check_rounding(self.rounding)
        shapes = {
            "prediction": answers,
            "lower": (len(claim.radii), *answers),
            "upper": (len(claim.radii), *answers),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if (
                not isinstance(array, np.ndarray)
                or array.shape != shape
                or array.dtype != np.float32
                or np.isnan(array).any()
            ):
                raise ValueError(
                    f"{name} in float32 of shape {shape} expected, {array} "
                    "received"
                )
        # Balls and intervals grow with the radius.
        ends = np.stack((*self.lower[::-1], self.prediction, *self.upper))
        if (ends[1:] < ends[:-1]).any():
            raise ValueError("intervals inside each other expected")
        if self.num_samples != claim.n or not 0 <= self.nan_draws <= claim.n:
            raise ValueError(
                f"{claim.n} draws expected, {self.num_samples} received, of "
                f"which {self.nan_draws} gave NaN"
            )
        self.check_label(answers)

    def check_label(self, answers):
        """Raises ValueError for a label of another shape than answers."""
        if self.label is not None and (
            self.label.shape != answers or self.label.dtype != np.float64
        ):
            raise ValueError(
                f"a label of shape {answers} expected, {self.label} received"
            )
