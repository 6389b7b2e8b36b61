import keras

from keras_smoothing.layers.noise_always import NoiseAlways
from keras_smoothing.layers.noise_always import noise_or_none
from keras_smoothing.noise import Gaussian


@keras.saving.register_keras_serializable(package="keras_smoothing")
class GaussianNoiseAlways(NoiseAlways):
    """Adds Gaussian noise, in training and at inference.

    Unlike `keras.layers.GaussianNoise` the noise is never switched off, and
    BatchNormalization and Dropout elsewhere in the model keep the mode they
    are called in. Noise is drawn afresh at every call and is added in float32
    before the sum is rounded to the layer's compute dtype.

    Args:
        stddev: float >= 0, standard deviation of each coordinate, in input
            units.
        seed: int or None, the seed of the layer's noise.
        mask_value: float or None. Steps that equal it in all features are
            padding and get no noise, so that a `Masking` layer behind this one
            finds them. Behind a `Masking` layer it is not needed.

    Input shape:
        Arbitrary.

    Output shape:
        The input shape.

    Raises:
        ValueError: if `stddev` is negative or not finite.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        ks.layers.GaussianNoiseAlways(0.25),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ])
    ```
    """

    def __init__(self, stddev, seed=None, mask_value=None, **kwargs):
        noise = noise_or_none("stddev", Gaussian, stddev)
        super().__init__(noise, seed, mask_value, **kwargs)
        self.stddev = stddev

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev}
