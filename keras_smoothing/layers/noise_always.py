import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.noise.valid_steps import valid_steps


class NoiseAlways(keras.layers.Layer):
    """A layer that adds fresh noise at every call. Base class.

    Steps that a Keras mask leaves out stay as they are, and the mask goes on.

    Args:
        noise: `keras_smoothing.noise.Noise`, or None for no noise.
        seed: int or None, the seed of the layer's own generator.
        mask_value: float or None. Steps that equal it in all features are
            padding, too, for a `Masking` layer behind this one to find.
    """

    def __init__(self, noise, seed=None, mask_value=None, **kwargs):
        # The input is rounded, if at all, after the noise is on it.
        super().__init__(**{"autocast": False, **kwargs})
        self.noise = noise
        self.seed = seed
        self.mask_value = mask_value
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.supports_jit = backend.prefers_xla()
        self._build_at_init()

    def call(self, inputs, mask=None):
        if self.noise is None:
            return inputs
        noisy = self.noise.add_to(inputs, self.seed_generator)
        noisy = ops.cast(noisy, self.compute_dtype)
        clean = ops.cast(inputs, self.compute_dtype)
        if mask is not None:
            while len(mask.shape) < len(inputs.shape):
                mask = ops.expand_dims(mask, -1)
            noisy = ops.where(mask, noisy, clean)
        if self.mask_value is not None:
            valid = valid_steps(inputs, self.mask_value)
            noisy = ops.where(valid, noisy, clean)
        return noisy

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "seed": self.seed,
            "mask_value": self.mask_value,
        }


def noise_or_none(name, kind, value):
    """`kind(value)`; None where `value` is 0, which is no noise at all."""
    if value == 0:
        return None
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(
            f"Invalid value received for argument `{name}`. Expected a finite "
            f"number >= 0 that noise can have. Received: {name}={value!r} "
            f"({error})"
        ) from None
