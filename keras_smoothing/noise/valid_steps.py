import keras
from keras import ops

from keras_smoothing.noise.noise_on_part import NoiseOnPart


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ValidSteps(NoiseOnPart):
    """Noise on the valid steps of a sequence; padding stays as it is.

    Steps are valid as `keras.layers.Masking` has it: unless all their features
    equal the mask value. They are found in the input without noise, so that a
    `Masking` layer behind the noise finds the same. Noise and radii are those
    of the vector of valid steps; what is certified holds among inputs with the
    same padding.

    Args:
        noise: `keras_smoothing.noise.Noise` of valid steps.
        mask_value: float, the value of padding.
    """

    def __init__(self, noise, mask_value):
        super().__init__(noise)
        self.mask_value = mask_value

    def __repr__(self):
        return f"{self.noise} on steps other than {self.mask_value}"

    @property
    def distance(self):
        return f"{self.noise.distance} (valid steps, padding fixed)"

    def where(self, x):
        return valid_steps(x, self.mask_value)

    def sample(self, shape, seed):
        return self.noise.sample(shape, seed)

    def get_config(self):
        return {
            **super().get_config(),
            "mask_value": self.mask_value,
        }


def valid_steps(x, mask_value):
    """Which steps are no padding, as `keras.layers.Masking` finds them.

    Args:
        x: tensor or array, shape `(..., features)`.
        mask_value: float.

    Returns:
        bool tensor, shape `(..., 1)`.
    """
    x = ops.convert_to_tensor(x)
    # In the type of x: Keras would round it to float32.
    mask_value = ops.convert_to_tensor(mask_value, dtype=x.dtype)
    return ops.any(ops.not_equal(x, mask_value), axis=-1, keepdims=True)
