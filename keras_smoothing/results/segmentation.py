import dataclasses

import numpy as np

from keras_smoothing.certificates import PixelClaim
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.evaluation.iou import certified_iou
from keras_smoothing.evaluation.tables import axes
from keras_smoothing.results.components import ComponentResult
from keras_smoothing.results.records import ComponentRecord


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SegmentationResult(
    ComponentResult, claim_type=PixelClaim, record_type=ComponentRecord
):
    """A certificate for each pixel of each example, and what they add up to.

    `statement` says what is proved, and with which probability. With a
    correction it is proved of all pixels of an example together: no attack
    that is closer than the radii of some pixels changes any of these.

    Attributes:
        prediction: int32 array, shape `(examples, height, width)`;
            `ks.ABSTAIN` (-1) where nothing is certified.
        radius: float64 array of that shape; 0 where nothing is certified.
        p_lower: float64 array of that shape: lower bound on the probability of
            the candidate. With "holm", that which `radius` needs, or 0.
        candidate: int32 array of that shape: the class selected by the first
            n0 draws; `ks.ABSTAIN` where the model returned NaN, and at
            padding that it masks.
        votes: int32 array of that shape: those for the candidate among the
            draws of the estimate.
        nan_draws: int32 array of that shape: draws with NaN for an output.
        num_samples: int64 array, shape `(examples,)`: draws of the estimate.
        time: float64 array, shape `(examples,)`: seconds.
        label: int32 array of the shape of `prediction`, -1 for a pixel that
            does not count; or None without labels.
        labelled: bool array of that shape: which pixels count.
        correct: bool array of that shape; False where abstained.
        abstained: bool array of that shape.
        digest: str array, shape `(examples,)`: a hash of each example.
        index: int64 array, shape `(examples,)`: which example each row is of,
            by its place among those that `certify` was given.
        rounding: float64 array, shape `(examples,)`: how far each example was
            moved by rounding it to float32. `radius` is around the example as
            it was passed in.
        claim: what is claimed: its `noise`, `alpha`, `n`, `correction` and
            `radius`.
        seed: int, the root of all draws; None where several were joined.
        family: int, how many examples share alpha in `recertify(alpha,
            family_wise=True)`: as many as `certify` was given, also after a
            selection.
        noise: `keras_smoothing.noise.Noise`.
        alpha: float, the failure probability of each example.
        distance: str, what the radius measures, such as "l2".
        statement: str, what is stated, in sentences.

    `result[:10]`, a boolean mask, indices or an int select examples, as of an
    array; of examples selected by looking at their certificates, more than a
    share of alpha may be wrong, unless it is shared by the `family`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, padding="same")]
    )
    model = ks.SmoothedSegmentation(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(2, 8, 8, 1).astype("float32")
    y = np.random.randint(0, 3, (2, 8, 8))
    result = model.certify(x, y, n=200, seed=0, verbose=0)
    print(result.statement)
    result.mean_iou([0.0, 0.1])
    result.recertify(0.01, correction="holm", radius=0.1).certified_accuracy(0)
    ```
    """

    def mean_iou(self, radii):
        """Mean IoU that no attack within a radius goes below.

        Of each class, the IoU that an attack can leave: an intersection of
        the pixels that are certified as that class, and right, over a union of
        all that are labelled so, all that are certified so, and all that are
        not certified, which the attack may turn to that class. The mean is
        over the classes in the labels. No attack need reach all of these
        minima at once, so that the truth may be better.

        This is less than the certified mIoU of Fischer et al., where what is
        not certified is a class of its own: that is the mIoU of a model that
        is seen to abstain, and holds for the classes of those pixels that
        nobody acts upon.

        It holds for all images together where `statement` does, as after
        `family_wise=True`; without, each image fails with probability alpha.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float for a scalar, else float64 array, shape `(...)`; NaN where no
            pixel counts.

        Raises:
            ValueError: without labels, for negative radii, or with
                `correction=None`, whose certificates do not hold together.
        """
        iou = self.iou(radii)
        present = ~np.isnan(iou)
        count = present.sum(axis=-1)
        total = np.sum(iou, axis=-1, where=present)
        mean = np.where(count > 0, total / np.maximum(1, count), np.nan)
        return mean if mean.ndim else float(mean)

    def iou(self, radii):
        """Of each class, the IoU that no attack within a radius goes below.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float64 array, shape `(..., classes)`, up to the largest label; NaN
            for a class that no pixel is labelled as.

        Raises:
            ValueError: as of `mean_iou`.
        """
        self._check_joint()
        labelled = self.labelled
        return certified_iou(
            self.radius[labelled],
            self.prediction[labelled],
            self.label[labelled],
            radii,
        )

    def plot_map(self, i, image=None, labels=False, ax=None):
        """Draws the certified pixels of one example, in colours of classes.

        What is not certified is grey. What is certified but wrong has a cross.

        Args:
            i: int, which example.
            image: float array, shape `(height, width)` or `(height, width,
                channels)`, in [0, 1], of 1 or 3 channels: shown below; or
                None.
            labels: bool, whether to draw the labels instead, in the same
                colours.
            ax: matplotlib axes, or None for new ones.

        Returns:
            The matplotlib axes.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: for answers that are no images, or `labels` of a result
                without.
        """
        shown = self.prediction[i]
        if shown.ndim != 2:
            raise ValueError(
                "Expected pixels in rows and columns, for a map. Received: "
                f"components of shape {shown.shape}"
            )
        if labels:
            shown = np.where(self.labelled[i], self.label[i], ABSTAIN)
        ax = axes(ax)
        if image is not None:
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.imshow(_colours(shown), alpha=None if image is None else 0.6)
        if self.label is not None and not labels:
            wrong = self.labelled[i] & ~self.correct[i] & ~self.abstained[i]
            rows, columns = np.nonzero(wrong)
            ax.scatter(columns, rows, s=12, c="black", marker="x", linewidths=1)
        ax.set_axis_off()
        return ax

    def _joint_measures(self):
        return {"certified mean IoU": self.mean_iou}


def _colours(classes):
    """A colour for each class, grey for -1.

    Args:
        classes: int array, shape `(height, width)`.

    Returns:
        float array, shape `(height, width, 3)`.
    """
    import matplotlib

    # Its eighth colour is grey.
    palette = np.delete(matplotlib.colormaps["tab10"].colors, 7, axis=0)
    shown = palette[classes % len(palette)]
    return np.where((classes >= 0)[..., np.newaxis], shown, 0.7)
