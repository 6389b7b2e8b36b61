import numpy as np

from keras_smoothing import checks
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.statistics.stopping_rule import StoppingRule


class FixedSampling(StoppingRule):
    """The same number of draws for every example: what an integer `n` means.

    Args:
        n: int, draws.

    Raises:
        ValueError: if `n` is not an integer >= 1.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(5, 4).astype("float32")
    model.certify(x, stopping=ks.FixedSampling(1_000), verbose=0)
    ```
    """

    def __init__(self, n):
        self.n = checks.num_draws("n", n)
        super().__init__(looks=(self.n,), shares=(1.0,), window=WINDOW)

    def is_decided(self, prove, candidate, votes):
        return np.ones(len(candidate), bool)

    def get_config(self):
        return {"n": self.n}
