import keras
from keras import ops

from keras_smoothing import backend


class NoiseAlways(keras.layers.Layer):
    """A layer that adds fresh noise at every call. Base class.

    Args:
        noise: `keras_smoothing.noise.Noise`, or None for no noise.
        seed: int or None, the seed of the layer's own generator.
    """

    def __init__(self, noise, seed=None, **kwargs):
        # The input is rounded, if at all, after the noise is on it.
        super().__init__(**{"autocast": False, **kwargs})
        self.noise = noise
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.supports_jit = backend.prefers_xla()
        self._build_at_init()

    def call(self, inputs):
        if self.noise is None:
            return inputs
        noisy = self.noise.add_to(inputs, self.seed_generator)
        return ops.cast(noisy, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


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
