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
    """One sigma for each coordinate of each example (anisotropic certificates).

    From the best common sigma on, Adam raises those of single coordinates. With
    `gap` for the radius at sigma 1, it maximises `gap * (m + kappa * min)`, m
    being the geometric mean of all sigmas and min the least of them, which does
    not fall below the common sigma.

    What is certified is an ellipsoid. The `radius` of a result is its inner
    radius, that of the largest ball inside; its `volume_radius` is that of the
    ball with the same volume. A `ks.CertificationMemory` keeps the ellipsoid.

    Args:
        start: `DataDependentSigma`, the search for the common sigma. Its
            `sigma_max`, `num_draws` and `beta` hold for both.
        steps: int >= 0, of Adam.
        learning_rate: float > 0, its rate, in input units.
        kappa: float >= 0, what the inner radius is worth beside the volume's.

    Raises:
        ValueError: if an argument is not as described; in `certify`, under a
            group, which moves coordinates.

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
