import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.sigma_search.ascent import ascend
from keras_smoothing.sigma_search.ascent import plain
from keras_smoothing.sigma_search.sigma_search import SigmaSearch


@keras.saving.register_keras_serializable(package="keras_smoothing")
class DataDependentSigma(SigmaSearch):
    """Finds one sigma per example: the one with the largest estimated radius.

    Performs gradient ascent on the radius estimated from `num_draws` draws. Let
    p1 and p2 be the two largest mean probabilities over these draws. The
    estimate is `sigma / 2 * (Phi^-1(p1) - Phi^-1(p2))` for `Gaussian` noise and
    `half_width * (p1 - p2)` for `Uniform` noise. The ascent starts at the
    model's noise and returns the best point on its path. Probabilities are
    clamped to [.001, .999], where the estimate ends; the bounds keep sigma from
    growing further there.

    Certificates are based on votes, and a network may vote correctly with low
    confidence. So the logits of each draw are multiplied by `beta`, as in
    MACER, which brings its probabilities close to a vote. The paper does not
    do this (`beta=1`). Models with `voting="soft"` do not use `beta` either.

    A classifier that adapts its noise to the input has no certificate by
    itself: at another point of the ball it may choose other noise. Certify and
    classify with a `ks.CertificationMemory`.

    Args:
        sigma_min: float > 0, the smallest standard deviation of the noise, in
            input units. For uniform noise it is half the width / sqrt(3).
        sigma_max: float > sigma_min, the largest standard deviation.
        steps: int >= 0, the number of ascent steps; the paper takes 900.
        learning_rate: float > 0, the length of a step at slope 1, in input
            units.
        num_draws: int >= 1, the number of noisy copies in each step.
        beta: float > 0, the inverse temperature.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(5, 4).astype("float32")
    search = ks.DataDependentSigma(sigma_min=0.1, sigma_max=1.0, steps=20)
    search.search(model, x).sigma
    with ks.CertificationMemory() as memory:
        result = model.certify(x, n=1_000, sigma=search, memory=memory)
        labels = model.classify(x + 0.01, sigma=search, memory=memory)
    result.sigma
    ```

    Reference:
    - [Alfarra, Bibi, Torr and Ghanem, 2022](https://arxiv.org/abs/2012.04351)
    """

    def __init__(
        self,
        sigma_min,
        sigma_max,
        steps=100,
        learning_rate=0.04,
        num_draws=100,
        beta=16.0,
    ):
        self.sigma_min, self.sigma_max = checks.sigma_bounds(
            sigma_min, sigma_max
        )
        self.steps = checks.nonnegative_int("steps", steps)
        self.learning_rate = checks.positive_float(
            "learning_rate", learning_rate
        )
        self.num_draws = checks.positive_int("num_draws", num_draws)
        self.beta = checks.positive_float("beta", beta)

    def climb(self, gap, stddev, shape):
        start = min(max(stddev, self.sigma_min), self.sigma_max)
        rule, state = plain(self.learning_rate)
        return ascend(
            lambda sigma: sigma * gap(sigma),
            ops.convert_to_tensor(start, "float32"),
            rule,
            state,
            low=self.sigma_min,
            high=self.sigma_max,
            steps=self.steps,
        )

    def get_config(self):
        return {
            "sigma_min": self.sigma_min,
            "sigma_max": self.sigma_max,
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "num_draws": self.num_draws,
            "beta": self.beta,
        }
