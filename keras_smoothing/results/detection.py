import dataclasses

import numpy as np

from keras_smoothing.certificates import BoxClaim
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.evaluation.iou import worst_iou
from keras_smoothing.evaluation.tables import axes
from keras_smoothing.results.intervals import Intervals
from keras_smoothing.results.records import DetectionRecord


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DetectionResult(
    Intervals, claim_type=BoxClaim, record_type=DetectionRecord
):
    """Intervals of the boxes that a smoothed detector finds.

    An output has slots. Each holds a box x1, y1, x2, y2, or is infinite if
    there is none. The smoothed detector returns the median of each edge. An
    interval with an infinite upper end means that the box may be missing.

    Attributes:
        prediction: float64 array, shape `(examples, slots, 4)`: the median of
            the draws.
        lower: float64 array, shape `(examples, radii, slots, 4)`.
        upper: float64 array of that shape.
        present: bool array, shape `(examples, radii, slots)`: whether the slot
            holds a box at every point of the ball.
        label: float64 array, shape `(examples, true boxes, 4)`, NaN in place of
            missing boxes; or None.
        others: as in `ks.IntervalResult`, including selection.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    image = keras.Input((8, 8, 1))
    numbers = keras.layers.Dense(8)(keras.layers.Flatten()(image))
    boxes = keras.layers.Reshape((2, 4))(numbers)
    detector = keras.Model(image, boxes)
    model = ks.SmoothedDetector(detector, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(3, 8, 8, 1).astype("float32")
    true = np.tile([[[0.0, 0.0, 4.0, 4.0]]], (3, 1, 1))
    result = model.certify(x, true, radii=[0.0, 0.1], n=1_000, verbose=0)
    result.present
    result.certified_recall([0.0, 0.1], iou=0.5)
    ```

    Reference:
    - [Chiang et al., 2020](https://arxiv.org/abs/2007.03730)
    """

    @property
    def present(self):
        return (self.upper < np.inf).all(axis=-1)

    def figures(self):
        return {"present": self.present.mean(axis=(1, 2))}

    def worst_iou(self, boxes, radius):
        """The least overlap that the box of a slot can have within a radius.

        Args:
            boxes: float array, shape `(examples, g, 4)`: x1, y1, x2, y2 with
                x1 < x2 and y1 < y2; rows of NaN in place of missing boxes.
            radius: float, as in `at`.

        Returns:
            float64 array, shape `(examples, g, slots)`: intersection over
            union; 0 where a slot may hold no box, NaN where `boxes` have none.

        Raises:
            ValueError: for invalid boxes, with `correction=None`, where the
                four edges need not be in their intervals together, or as in
                `at`.
        """
        if self.correction is None:
            raise ValueError(
                'Expected intervals with correction="bonferroni", since a box '
                "is where all its edges are. Received: correction=None"
            )
        boxes = checks.boxes("boxes", boxes, len(self))
        worst = worst_iou(*self.at(radius), boxes)
        missing = np.isnan(boxes).any(axis=-1)
        return np.where(missing[..., np.newaxis], np.nan, worst)

    def certified_recall(self, radii, iou):
        """Share of the true boxes that some slot keeps overlapping in a ball.

        Args:
            radii: float or float array, shape `(...)`, each as in `at`.
            iou: float in (0, 1], the least intersection over union.

        Returns:
            float for a scalar, else float64 array, shape `(...)`.

        Raises:
            ValueError: without labels or without a box in them, for an `iou`
                out of range, or as in `worst_iou`.
        """
        iou = checks.positive_share("iou", iou)
        label = self.known_labels()
        known = ~np.isnan(label).any(axis=-1)
        if not known.any():
            raise ValueError(
                "Expected at least one true box. Received: labels without any"
            )
        shares = [
            (self.worst_iou(label, radius).max(axis=-1)[known] >= iou).mean()
            for radius in np.ravel(radii)
        ]
        shares = np.reshape(shares, np.shape(radii))
        return shares if shares.ndim else float(shares)

    def plot(self, ax=None, iou=0.5):
        """Plots certified recall against radius.

        Args:
            ax: matplotlib axes, or None for new ones.
            iou: as in `certified_recall`.

        Returns:
            The matplotlib axes.

        Raises:
            ValueError: as in `certified_recall`.
        """
        shares = self.certified_recall(self.radii, iou)
        ax = axes(ax)
        ax.plot(self.radii, shares, marker="o")
        ax.set(
            xlabel=f"{self.distance} radius",
            ylabel=f"certified recall at IoU {at_least(iou, '.6g')}",
            ylim=(0, 1),
        )
        ax.grid(alpha=0.3)
        return ax

    def _columns(self):
        shares = {"present": [self.present[:, i].mean() for i in self._steps()]}
        if self.label is not None and self.correction is not None:
            for iou in (0.5, 0.75):
                recall = self.certified_recall(self.radii, iou)
                shares[f"recall {iou}"] = recall
        return {
            name: [at_least(share, ".1%") for share in values]
            for name, values in shares.items()
        }
