import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.noise import Gaussian
from keras_smoothing.noise import Laplace
from keras_smoothing.noise import Uniform
from keras_smoothing.noise.parts import valid_steps


class NoiseAlways(keras.layers.Layer):
    """A layer that adds fresh noise at every call. Base class.

    Steps masked out by a Keras mask stay unchanged, and the mask is passed on.

    Args:
        noise: `keras_smoothing.noise.Noise`, or None for no noise.
        seed: int or None, the seed of the layer's own generator.
        mask_value: float or None. Steps that equal it in all features are
            padding, too, and stay unchanged for a later `Masking` layer.
    """

    def __init__(self, noise, seed=None, mask_value=None, **kwargs):
        # The input is rounded, if at all, after the noise has been added.
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
    """`kind(value)`, or None if `value` is 0, which means no noise."""
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


@keras.saving.register_keras_serializable(package="keras_smoothing")
class GaussianNoiseAlways(NoiseAlways):
    """Adds Gaussian noise, in training and at inference.

    Unlike in `keras.layers.GaussianNoise`, the noise is never switched off, and
    BatchNormalization and Dropout elsewhere in the model keep the mode they
    are called in. Noise is drawn afresh at every call and is added in float32
    before the sum is rounded to the layer's compute dtype.

    Args:
        stddev: float >= 0, standard deviation of each coordinate, in input
            units.
        seed: int or None, the seed of the layer's noise.
        mask_value: float or None. Steps that equal it in all features are
            padding and get no noise, so that a later `Masking` layer still
            finds them. After a `Masking` layer it is not needed.

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


@keras.saving.register_keras_serializable(package="keras_smoothing")
class LaplaceNoiseAlways(NoiseAlways):
    """Adds Laplace noise, in training and at inference.

    Otherwise like `keras_smoothing.layers.GaussianNoiseAlways`.

    Args:
        scale: float >= 0, mean absolute deviation of each coordinate, in
            input units.
        seed: int or None, the seed of the layer's noise.
        mask_value: float or None, as in `GaussianNoiseAlways`.

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


@keras.saving.register_keras_serializable(package="keras_smoothing")
class UniformNoiseAlways(NoiseAlways):
    """Adds uniform noise, in training and at inference.

    Otherwise like `keras_smoothing.layers.GaussianNoiseAlways`.

    Args:
        half_width: float >= 0, half the width of the interval, in input units.
        seed: int or None, the seed of the layer's noise.
        mask_value: float or None, as in `GaussianNoiseAlways`.

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
