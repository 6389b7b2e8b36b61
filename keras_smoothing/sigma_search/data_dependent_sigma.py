import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.sigma_search.ascent import ascend
from keras_smoothing.sigma_search.ascent import plain
from keras_smoothing.sigma_search.sigma_search import SigmaSearch


@keras.saving.register_keras_serializable(package="keras_smoothing")
class DataDependentSigma(SigmaSearch):
    """One sigma for each example: the one at which its radius looks largest.

    Gradient ascent on the radius that `num_draws` draws suggest, with p1 and p2
    for the two largest of their mean probabilities: of `Gaussian` noise
    `sigma / 2 * (Phi^-1(p1) - Phi^-1(p2))`, of `Uniform` noise
    `half_width * (p1 - p2)`. It starts at the noise of the model, and the best
    point that it comes by is taken. Probabilities are clamped to [.001, .999],
    where the estimate ends; the bounds keep sigma from growing on there.

    What is certified are votes, and a network that is right may not be sure. So
    the logits of each draw are multiplied by `beta`, as in MACER, which brings
    its probabilities close to a vote. The paper does not do that (`beta=1`),
    nor is it done for a model with `voting="soft"`.

    A classifier that chooses its noise by the input has no certificate by
    itself: at another point of the ball it may choose other noise. Certify, and
    classify, with a `ks.CertificationMemory`.

    Args:
        sigma_min: float > 0, the least standard deviation of the noise, in
            input units. Of uniform noise that is half its width / sqrt(3).
        sigma_max: float > sigma_min, the largest.
        steps: int >= 0, of the ascent; the paper takes 900.
        learning_rate: float > 0, how far a step goes at slope 1, in input
            units.
        num_draws: int >= 1, noisy copies for each step.
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
