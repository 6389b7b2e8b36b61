import keras

from keras_smoothing.layers.noise_always import NoiseAlways
from keras_smoothing.layers.noise_always import noise_or_none
from keras_smoothing.noise import Uniform


@keras.saving.register_keras_serializable(package="keras_smoothing")
class UniformNoiseAlways(NoiseAlways):
    """Adds uniform noise, in training and at inference.

    Unlike `keras.layers.GaussianNoise` the noise is never switched off, and
    BatchNormalization and Dropout elsewhere in the model keep the mode they
    are called in. Noise is drawn afresh at every call and is added in float32
    before the sum is rounded to the layer's compute dtype.

    Args:
        half_width: float >= 0, half the width of the interval, in input units.
        seed: int or None, the seed of the layer's noise.

    Input shape:
        Arbitrary.

    Output shape:
        The input shape.

    Raises:
        ValueError: if `half_width` is negative or not finite.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        ks.layers.UniformNoiseAlways(0.25),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ])
    ```
    """

    def __init__(self, half_width, seed=None, **kwargs):
        super().__init__(
            noise_or_none("half_width", Uniform, half_width),
            seed=seed,
            **kwargs,
        )
        self.half_width = half_width

    def get_config(self):
        return {**super().get_config(), "half_width": self.half_width}
