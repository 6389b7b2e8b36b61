import keras

from keras_smoothing.layers.noise_always import NoiseAlways
from keras_smoothing.layers.noise_always import noise_or_none
from keras_smoothing.noise import Uniform


@keras.saving.register_keras_serializable(package="keras_smoothing")
class UniformNoiseAlways(NoiseAlways):
    """Adds uniform noise, in training and at inference.

    In all else like `keras_smoothing.layers.GaussianNoiseAlways`.

    Args:
        half_width: float >= 0, half the width of the interval, in input units.
        seed: int or None, the seed of the layer's noise.
        mask_value: float or None, as of `GaussianNoiseAlways`.

    Raises:
        ValueError: if `half_width` is negative or not finite.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    layer = ks.layers.UniformNoiseAlways(0.25)
    noisy = layer(keras.ops.zeros((2, 28, 28, 1)))
    ```
    """

    def __init__(self, half_width, seed=None, mask_value=None, **kwargs):
        super().__init__(
            noise_or_none("half_width", Uniform, half_width),
            seed=seed,
            mask_value=mask_value,
            **kwargs,
        )
        self.half_width = half_width

    def get_config(self):
        return {**super().get_config(), "half_width": self.half_width}
