import keras

from keras_smoothing.layers.noise_always import NoiseAlways
from keras_smoothing.layers.noise_always import noise_or_none
from keras_smoothing.noise import Laplace


@keras.saving.register_keras_serializable(package="keras_smoothing")
class LaplaceNoiseAlways(NoiseAlways):
    """Adds Laplace noise, in training and at inference.

    In all else like `keras_smoothing.layers.GaussianNoiseAlways`.

    Args:
        scale: float >= 0, mean absolute deviation of each coordinate, in
            input units.
        seed: int or None, the seed of the layer's noise.
        mask_value: float or None, as of `GaussianNoiseAlways`.

    Raises:
        ValueError: if `scale` is negative or not finite.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    layer = ks.layers.LaplaceNoiseAlways(0.25)
    noisy = layer(keras.ops.zeros((2, 28, 28, 1)))
    ```
    """

    def __init__(self, scale, seed=None, mask_value=None, **kwargs):
        noise = noise_or_none("scale", Laplace, scale)
        super().__init__(noise, seed, mask_value, **kwargs)
        self.scale = scale

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
