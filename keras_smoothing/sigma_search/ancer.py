import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.sigma_search.ascent import adam
from keras_smoothing.sigma_search.ascent import ascend
from keras_smoothing.sigma_search.ascent import geometric_mean
from keras_smoothing.sigma_search.data_dependent_sigma import DataDependentSigma
from keras_smoothing.sigma_search.sigma_search import SigmaSearch


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ANCER(SigmaSearch):
    """Finds one sigma per coordinate of each example: anisotropic certificates.

    Starting from the best common sigma, Adam raises the sigmas of single
    coordinates. With `gap` for the radius at sigma 1, it maximises
    `gap * (m + kappa * min)`, where m is the geometric mean of all sigmas and
    min the smallest of them. No sigma falls below the common one.

    The certified region is an ellipsoid. The `radius` of a result is its inner
    radius: the radius of the largest ball inside. Its `volume_radius` is the
    radius of the ball with the same volume. A `ks.CertificationMemory` stores
    the ellipsoid.

    Args:
        start: `DataDependentSigma`, the search for the common sigma. Its
            `sigma_max`, `num_draws` and `beta` apply to both searches.
        steps: int >= 0, the number of Adam steps.
        learning_rate: float > 0, Adam's learning rate, in input units.
        kappa: float >= 0, the weight of the inner radius relative to the
            volume's radius.

    Raises:
        ValueError: if an argument is not as described; in `certify`, if the
            model has a group, since its elements move coordinates.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(5, 4).astype("float32")
    search = ks.ANCER(ks.DataDependentSigma(0.1, 1.0, steps=20), steps=20)
    with ks.CertificationMemory() as memory:
        result = model.certify(x, n=1_000, sigma=search, memory=memory)
    result.radius, result.volume_radius
    ```

    Reference:
    - [Eiras et al., 2022](https://arxiv.org/abs/2107.04570)
    """

    def __init__(self, start, steps=100, learning_rate=0.04, kappa=2.0):
        checks.instance(
            "start", start, DataDependentSigma, "DataDependentSigma(0.1, 1.0)"
        )
        self.start = start
        self.steps = checks.nonnegative_int("steps", steps)
        self.learning_rate = checks.positive_float(
            "learning_rate", learning_rate
        )
        self.kappa = checks.nonnegative_float("kappa", kappa)

    @property
    def num_draws(self):
        return self.start.num_draws

    @property
    def beta(self):
        return self.start.beta

    @property
    def sigma_min(self):
        return self.start.sigma_min

    def check(self, model):
        super().check(model)
        if model.group is not None:
            raise ValueError(
                "Expected a model without a group, whose elements move "
                f"coordinates, for {self}. Received: group={model.group}"
            )

    def climb(self, gap, stddev, shape):
        common, _, _ = self.start.climb(gap, stddev, shape)

        def value(sigma):
            inner = self.kappa * ops.min(sigma)
            return gap(sigma) * (geometric_mean(sigma) + inner)

        rule, state = adam(self.learning_rate, shape)
        return ascend(
            value,
            ops.broadcast_to(common, shape),
            rule,
            state,
            low=common,
            high=self.start.sigma_max,
            steps=self.steps,
        )

    def get_config(self):
        return {
            "start": keras.saving.serialize_keras_object(self.start),
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "kappa": self.kappa,
        }

    @classmethod
    def from_config(cls, config):
        start = keras.saving.deserialize_keras_object(config["start"])
        return cls(**{**config, "start": start})
