import dataclasses

import numpy as np

from keras_smoothing.results.intervals import Intervals
from keras_smoothing.results.intervals import quantile
from keras_smoothing.rounding import at_least
from keras_smoothing.rounding import at_most


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class IntervalResult(Intervals):
    """Intervals of the medians of a regression, for each example and radius.

    `statement` says what is proved, in words. Ends are infinite where nothing
    is. The draws themselves are not kept, so that there is no `recertify`: ask
    for the `alpha` and the `radii` that are wanted.

    Attributes:
        prediction: float64 array, shape `(examples, *answer)`: the median of
            the draws, itself one of them. It lies in every interval.
        lower: float64 array, shape `(examples, radii, *answer)`.
        upper: float64 array of that shape.
        width: float64 array of that shape.
        bounded: bool array of that shape, whether both ends are finite.
        radii: float64 array, shape `(radii,)`, in the norm and the input units
            of the noise.
        label: float64 array, shape `(examples, *answer)`, or None.
        num_samples: int64 array, shape `(examples,)`: draws.
        nan_draws: int64 array, shape `(examples,)`: draws in which the base
            model returned a NaN, which is taken for whatever is worst.
        time: float64 array, shape `(examples,)`: seconds.
        digest: str array, shape `(examples,)`: a hash of each example.
        index: int64 array, shape `(examples,)`: which example each row is of,
            by its place among those that `certify` was given.
        rounding: float64 array, shape `(examples,)`: how far each example was
            moved by rounding it to float32. Intervals hold in the balls around
            the example as it was passed in.
        noise: `keras_smoothing.noise.Noise`.
        alpha: float, the failure probability for each example and radius.
        correction: "bonferroni" or None, as in `SmoothedRegression.certify`.
        distance: str, what the radii measure, such as "l2".
        statement: str, what is proved.
        claim: `MedianClaim`, all of these settings.
        seed: int, the root of all draws.
        family: int, how many examples `certify` was given, also after a
            selection.

    `result[:10]`, a boolean mask, indices or an int select examples, as of an
    array. Of examples selected by looking at their intervals, more than a share
    of `alpha` may be wrong, unless `family_wise` was asked for.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model = ks.SmoothedRegression(base, ks.noise.Gaussian(sigma=0.25))
    x, y = np.random.rand(5, 4).astype("float32"), np.zeros((5, 2))
    result = model.certify(x, y, radii=[0.0, 0.25], n=1_000, verbose=0)
    lower, upper = result.at(0.25)
    result.certified_accuracy([0.0, 0.25], tolerance=1.0)
    result[0].summary()
    ```
    """

    def certified_error(self, radius):
        """How far medians can be from the labels, within a radius.

        Args:
            radius: float, as of `at`.

        Returns:
            float64 array, shape `(examples, *answer)`: the distance of each
            label to the farther end; infinite where that is.

        Raises:
            ValueError: without labels, or as `at` does.
        """
        label = self.known_labels()
        lower, upper = self.at(radius)
        return np.maximum(np.abs(label - lower), np.abs(upper - label))

    def certified_accuracy(self, radii, tolerance):
        """Share of the coordinates that stay near their labels.

        Args:
            radii: float or float array, shape `(...)`, each as of `at`.
            tolerance: float >= 0, or an array that `(examples, *answer)` allows
                for: how far medians may be from the labels.

        Returns:
            float for a scalar, else float64 array, shape `(...)`.

        Raises:
            ValueError: without labels, for a negative tolerance, or as `at`
                does.
        """
        if not np.all(np.asarray(tolerance) >= 0):
            raise ValueError(
                f"Expected a tolerance >= 0. Received: tolerance={tolerance}"
            )
        shares = [
            np.mean(self.certified_error(radius) <= tolerance)
            for radius in np.ravel(radii)
        ]
        shares = np.reshape(shares, np.shape(radii))
        return shares if shares.ndim else float(shares)

    def _columns(self):
        shares = [self.bounded[:, i].mean() for i in self._steps()]
        columns = {"bounded": [at_least(s, ".1%") for s in shares]}
        spreads = {"width": [self.width[:, i] for i in self._steps()]}
        if self.label is not None:
            spreads["error"] = [self.certified_error(r) for r in self.radii]
        for name, values in spreads.items():
            for what, share in (("median", 0.5), ("90 %", 0.9)):
                columns[f"{what} {name}"] = [
                    at_most(quantile(v, share), ".4g") for v in values
                ]
        return columns
