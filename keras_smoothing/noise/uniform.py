import keras

from keras_smoothing.noise import laws
from keras_smoothing.noise.noise import Noise


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Uniform(laws.Uniform, Noise):
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

    def sample(self, shape, seed):
        return keras.random.uniform(
            shape,
            minval=-self.half_width,
            maxval=self.half_width,
            dtype="float32",
            seed=seed,
        )

    def soft_radius(self, p1, p2):
        return self.half_width * (p1 - p2)
