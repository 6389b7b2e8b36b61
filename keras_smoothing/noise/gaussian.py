import math

import keras
from keras import ops

from keras_smoothing.noise import laws
from keras_smoothing.noise.noise import Noise


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Gaussian(laws.Gaussian, Noise):
    """Isotropic Gaussian noise, which certifies in the l2 norm.

    Each coordinate is N(0, sigma^2). With the top class at least as probable
    as `p_lower > 1/2`, the smoothed prediction is constant in the l2 ball of
    radius `sigma * Phi^-1(p_lower)`.

    Args:
        sigma: float > 0, the standard deviation, in input units.

    Raises:
        ValueError: if `sigma` is not a finite number > 0.

    Example:

    ```python
    import keras_smoothing as ks

    ks.noise.Gaussian(sigma=0.25).radius([0.5, 0.9, 0.999])
    # [0., 0.3204, 0.7726]
    ```

    Reference:
    - [Cohen, Rosenfeld and Kolter, 2019](https://arxiv.org/abs/1902.02918)
    """

    def sample(self, shape, seed):
        return self.sigma * keras.random.normal(
            shape, dtype="float32", seed=seed
        )

    def soft_radius(self, p1, p2):
        return self.sigma / 2 * (_quantile(p1) - _quantile(p2))


def _quantile(p):
    """Of the normal distribution, in a graph."""
    return math.sqrt(2) * ops.erfinv(2 * p - 1)
