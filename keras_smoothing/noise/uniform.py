import math

import keras
import numpy as np

from keras_smoothing import checks
from keras_smoothing.noise.noise import Noise
from keras_smoothing.noise.noise import top_half


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Uniform(Noise):
    """Uniform noise on a cube, which certifies in the l1 norm.

    Each coordinate is uniform on `[-half_width, half_width]`. With the top
    class at least as probable as `p_lower > 1/2`, the smoothed prediction is
    constant in the l1 ball of radius `2 * half_width * (p_lower - 1/2)`, so
    no radius exceeds `half_width`.

    Args:
        half_width: float > 0, half the side of the cube, in input units.

    Raises:
        ValueError: if `half_width` is not a finite number > 0.

    Example:

    ```python
    import keras_smoothing as ks

    ks.noise.Uniform(half_width=0.5).radius([0.5, 0.9, 0.999])
    # [0., 0.4, 0.499]
    ```

    Reference:
    - [Yang et al., 2020](https://arxiv.org/abs/2002.08118)
    """

    norm = "l1"

    def __init__(self, half_width):
        self.half_width = checks.positive_float("half_width", half_width)

    @property
    def stddev(self):
        return self.half_width / math.sqrt(3)

    def sample(self, shape, seed):
        return keras.random.uniform(
            shape,
            minval=-self.half_width,
            maxval=self.half_width,
            dtype="float32",
            seed=seed,
        )

    def radius(self, p_lower):
        return 2 * self.half_width * (top_half(p_lower) - 0.5)

    def soft_radius(self, p1, p2):
        return self.half_width * (p1 - p2)

    def shifted(self, p, distance):
        # What the shifted cube no longer covers may all be the event's.
        return np.maximum(p - distance / (2 * self.half_width), 0.0)

    def get_config(self):
        return {"half_width": self.half_width}
