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
    """A certificate for each pixel of each example, with summary figures.

    `statement` says what is proved, and with which probability. With a
    correction, it is proved for all pixels of an example together: no attack
    that is closer than the radii of some pixels changes any of these.

    Attributes:
        prediction: int32 array, shape `(examples, height, width)`;
            `ks.ABSTAIN` (-1) where nothing is certified.
        radius: float64 array of that shape; 0 where nothing is certified.
        p_lower: float64 array of that shape: lower bound on the probability of
            the candidate. With "holm", the bound that `radius` needs, or 0.
        candidate: int32 array of that shape: the class selected by the first
            n0 draws; `ks.ABSTAIN` where the model returned NaN, and at
            padding that it masks.
        votes: int32 array of that shape: votes for the candidate in the
            estimation draws.
        nan_draws: int32 array of that shape: draws with a NaN output.
        num_samples: int64 array, shape `(examples,)`: estimation draws.
        time: float64 array, shape `(examples,)`: seconds.
        label: int32 array of the shape of `prediction`, -1 for a pixel that
            does not count; or None without labels.
        labelled: bool array of that shape: which pixels count.
        correct: bool array of that shape; False where abstained.
        abstained: bool array of that shape.
        digest: str array, shape `(examples,)`: a hash of each example.
        index: int64 array, shape `(examples,)`: the place of each example among
            those that `certify` was given.
        rounding: float64 array, shape `(examples,)`: how far rounding to
            float32 moved each example. `radius` is around the example as it
            was passed in.
        claim: the settings of the certificates: `noise`, `alpha`, `n`,
            `correction` and `radius`.
        seed: int, the root of all draws; None if results with different seeds
            were joined.
        family: int, how many examples share alpha in `recertify(alpha,
            family_wise=True)`: as many as `certify` was given, even after a
            selection.
        noise: `keras_smoothing.noise.Noise`.
        alpha: float, the failure probability of each example.
        distance: str, what the radius measures, such as "l2".
        statement: str, what the certificates state, in sentences.

    Index a result like an array to select examples: `result[:10]`, a boolean
    mask, indices or an int. If you select examples by looking at their
    certificates, more than a share alpha of them may be wrong, unless alpha is
    shared by the `family`.

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

        It is the mean, over the classes in the labels, of the IoU that an
        attack can leave for each class. The intersection has the pixels that
        are certified as that class, and correct. The union has all pixels that
        are labelled as that class, all that are certified as it, and all that
        are not certified, which the attack may turn into it. Possibly no attack
        reaches all of these minima at once, so the true mean may be higher.

        This is less than the certified mIoU of Fischer et al., who count
        pixels that are not certified as a class of their own. Theirs is the
        mIoU of a model that is seen to abstain, where nobody acts upon the
        pixels on which it abstains.

        The bound holds for all images together if `statement` does, as after
        `family_wise=True`; otherwise each image fails with probability alpha.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float for a scalar, else float64 array, shape `(...)`; NaN if no
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
        """IoU of each class that no attack within a radius goes below.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float64 array, shape `(..., classes)`, up to the largest label; NaN
            for a class without labelled pixels.

        Raises:
            ValueError: as in `mean_iou`.
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
        """Plots the certified pixels of one example, coloured by class.

        Pixels that are not certified are grey. Crosses mark pixels that are
        certified but wrong.

        Args:
            i: int, which example.
            image: float array, shape `(height, width)` or `(height, width,
                channels)`, in [0, 1], with 1 or 3 channels, to show underneath;
                or None.
            labels: bool, whether to plot the labels instead, in the same
                colours.
            ax: matplotlib axes, or None for new ones.

        Returns:
            The matplotlib axes.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: for predictions that are not images, or for `labels` of
                a result without labels.
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
    """RGB colours of classes, grey for -1: from `(h, w)` to `(h, w, 3)`."""
    import matplotlib

    # The eighth colour of tab10 is grey.
    palette = np.delete(matplotlib.colormaps["tab10"].colors, 7, axis=0)
    shown = palette[classes % len(palette)]
    return np.where((classes >= 0)[..., np.newaxis], shown, 0.7)
