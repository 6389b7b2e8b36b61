import numpy as np

from keras_smoothing.results.interval_record import IntervalRecord


class DetectionRecord(IntervalRecord):
    """An `IntervalRecord` whose label is the true boxes of an image.

    Attributes:
        label: float64 array, shape `(true boxes, 4)`, NaN where there is none;
            or None.
    """

    __slots__ = ()

    def check_label(self, answers):
        if self.label is not None and (
            self.label.ndim != 2
            or self.label.shape[1] != 4
            or self.label.dtype != np.float64
        ):
            raise ValueError(
                f"boxes of shape (true boxes, 4) expected, {self.label} "
                "received"
            )
