import dataclasses

import numpy as np

from keras_smoothing.certificates import LabelClaim
from keras_smoothing.results.components import ComponentResult
from keras_smoothing.results.records import ComponentRecord


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MultiLabelResult(
    ComponentResult, claim_type=LabelClaim, record_type=ComponentRecord
):
    """A certificate for each label of each example, with summary figures.

    `statement` says what is proved, and with which probability. With a
    correction, it is proved for all labels of an example together.

    Attributes:
        prediction: int32 array, shape `(examples, labels)`: 1 for a label that
            is predicted, 0 for one that is not, `ks.ABSTAIN` (-1) where neither
            is certified.
        radius: float64 array of that shape; 0 where nothing is certified.
        p_lower: float64 array of that shape: lower bound on the probability of
            the candidate. With "holm", the bound that `radius` needs, or 0.
        candidate: int32 array of that shape: the answer selected by the first
            n0 draws; `ks.ABSTAIN` where the model returned NaN.
        votes: int32 array of that shape: votes for the candidate in the
            estimation draws.
        nan_draws: int32 array of that shape: draws with a NaN output.
        num_samples: int64 array, shape `(examples,)`: estimation draws.
        time: float64 array, shape `(examples,)`: seconds.
        label: int32 array of the shape of `prediction`, -1 where it is not
            known; or None without labels.
        labelled: bool array of that shape: which labels count.
        correct: bool array of that shape; False where abstained.
        abstained: bool array of that shape.
        digest: str array, shape `(examples,)`: a hash of each example.
        index: int64 array, shape `(examples,)`: the place of each example among
            those that `certify` was given.
        rounding: float64 array, shape `(examples,)`: how far rounding to
            float32 moved each example. `radius` is around the example as it
            was passed in.
        claim: the settings of the certificates: `noise`, `alpha`, `n`,
            `correction`, `radius` and `group`.
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
        [keras.Input((6,)), keras.layers.Dense(4, activation="sigmoid")]
    )
    model = ks.SmoothedMultiLabel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(5, 6).astype("float32")
    y = np.random.randint(0, 2, (5, 4))
    result = model.certify(x, y, n=200, seed=0, verbose=0)
    result.exact_match([0.0, 0.1])
    result.label_accuracy(0.1)
    ```
    """

    def label_accuracy(self, radii):
        """Certified accuracy of each single label.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float64 array, shape `(..., labels)`; NaN for a label that no
            example has.

        Raises:
            ValueError: without labels, or for negative radii.
        """
        right, labelled = self._right(radii), self.labelled.sum(axis=0)
        share = right.sum(axis=-2) / np.maximum(1, labelled)
        return np.where(labelled > 0, share, np.nan)

    def exact_match(self, radii):
        """Share of examples all of whose labels are correct and certified.

        Labels that are not known do not count.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float for a scalar, else float64 array, shape `(...)`.

        Raises:
            ValueError: without labels, for negative radii, or with
                `correction=None`, whose certificates do not hold together.
        """
        self._check_joint()
        right = self._right(radii) | ~self.labelled
        return _plain(right.all(axis=-1).mean(axis=-1))

    def precision(self, radii):
        """Micro-averaged precision that no attack within a radius goes below.

        Labels that are not certified count as an attack would choose them:
        true labels as not predicted, others as predicted.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float for a scalar, else float64 array, shape `(...)`; 0 where
            possibly no label is predicted.

        Raises:
            ValueError: as in `exact_match`.
        """
        self._check_joint()
        right = self._right(radii)
        given = np.sum(right & (self.label == 1), axis=(-2, -1))
        wrong = np.sum(~right & (self.label == 0), axis=(-2, -1))
        return _plain(given / np.maximum(1, given + wrong))

    def recall(self, radii):
        """Micro-averaged recall that no attack within a radius goes below.

        Args:
            radii: float or float array, shape `(...)`, in input units.

        Returns:
            float for a scalar, else float64 array, shape `(...)`; 0 where no
            example has a label.

        Raises:
            ValueError: as in `exact_match`.
        """
        self._check_joint()
        given = np.sum(self._right(radii) & (self.label == 1), axis=(-2, -1))
        return _plain(given / max(1, np.sum(self.label == 1)))

    def _right(self, radii):
        """Labels correct at each radius: bool, `(..., examples, labels)`."""
        grid = np.asarray(radii, np.float64)
        if not np.all(grid >= 0):
            raise ValueError(f"Expected radii >= 0. Received: radii={radii}")
        return self.correct & (self.radius >= grid[..., None, None])

    def _joint_measures(self):
        return {
            "all labels right": self.exact_match,
            "precision": self.precision,
            "recall": self.recall,
        }


def _plain(shares):
    """A float for a scalar array."""
    return shares if np.ndim(shares) else float(shares)
