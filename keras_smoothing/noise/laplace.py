import keras
from keras import ops

from keras_smoothing.noise import laws
from keras_smoothing.noise.noise import Noise


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Laplace(laws.Laplace, Noise):
    """Laplace noise, which certifies in the l1 norm.

    Each coordinate has density `exp(-|e| / scale) / (2 * scale)`. With the top
    class at least as probable as `p_lower > 1/2`, the smoothed prediction is
    constant in the l1 ball of radius `-scale * ln(2 * (1 - p_lower))`.

    Args:
        scale: float > 0, the mean absolute deviation, in input units.

    Raises:
        ValueError: if `scale` is not a finite number > 0.

    Example:

    ```python
    import keras_smoothing as ks

    ks.noise.Laplace(scale=0.2).radius([0.5, 0.9, 0.999])
    # [0., 0.3219, 1.2429]
    ```

    Reference:
    - [Teng, Lee and Yuan, 2020](https://openreview.net/forum?id=H1lQIgrFDS)
    """

    def sample(self, shape, seed):
        # Float32 uniforms are multiples of 2^-23 and include 0, whose quantile
        # is infinite. Half a step more makes them symmetric about 1/2.
        u = keras.random.uniform(shape, dtype="float32", seed=seed) + 2**-24
        magnitude = -ops.log(2 * ops.minimum(u, 1 - u))
        return self.scale * ops.where(u < 0.5, -magnitude, magnitude)

    def soft_radius(self, p1, p2):
        ratio = ops.log(p1 / p2) / 2
        return self.scale * ops.maximum(ratio, -ops.log(1 - p1 + p2))
