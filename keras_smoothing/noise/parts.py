"""Noise on a part of each example."""

import math

import keras
from keras import ops

from keras_smoothing.noise.noise import Noise


class NoiseOnPart(Noise):
    """Noise on a part of each example, with the law of that part. Base class.

    Args:
        noise: `keras_smoothing.noise.Noise` of the part.
    """

    def __init__(self, noise):
        self.noise = noise

    @property
    def norm(self):
        return self.noise.norm

    @property
    def stddev(self):
        return self.noise.stddev

    def radius(self, p_lower):
        return self.noise.radius(p_lower)

    def soft_radius(self, p1, p2):
        return self.noise.soft_radius(p1, p2)

    def shifted(self, p, distance):
        return self.noise.shifted(p, distance)

    def total_variation(self, distance):
        return self.noise.total_variation(distance)

    def get_config(self):
        return {"noise": keras.saving.serialize_keras_object(self.noise)}

    @classmethod
    def from_config(cls, config):
        noise = keras.saving.deserialize_keras_object(config["noise"])
        return cls(**{**config, "noise": noise})


@keras.saving.register_keras_serializable(package="keras_smoothing")
class OneInput(NoiseOnPart):
    """Noise on one of several inputs, which are concatenated in an example.

    The input comes first, flattened. The values after it get no noise, and
    nothing is certified for them: the ball is in this input alone.

    Args:
        noise: `keras_smoothing.noise.Noise` of the input.
        input: str, the name of the input.
        shape: tuple of ints, the shape of the input in one example.
    """

    def __init__(self, noise, input, shape):
        super().__init__(noise)
        self.input = input
        self.shape = tuple(shape)

    def __repr__(self):
        return f"{self.noise} of {self.input!r}"

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def distance(self):
        return f"{self.noise.distance} ({self.input!r}, all else fixed)"

    def where(self, x):
        own = ops.reshape(x[:, : self.size], (-1, *self.shape))
        where = self.noise.where(own)
        if where is None:
            return None
        where = ops.logical_and(where, ops.ones_like(own, "bool"))
        where = ops.reshape(where, (-1, self.size))
        rest = ops.zeros_like(x[:, self.size :], "bool")
        return ops.concatenate([where, rest], axis=1)

    def sample(self, shape, seed):
        *lead, total = shape
        drawn = self.noise.checked_sample((*lead, *self.shape), seed)
        drawn = ops.reshape(drawn, (*lead, self.size))
        nothing = ops.zeros((*lead, total - self.size), drawn.dtype)
        return ops.concatenate([drawn, nothing], axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "input": self.input,
            "shape": list(self.shape),
        }


@keras.saving.register_keras_serializable(package="keras_smoothing")
class ValidSteps(NoiseOnPart):
    """Noise on the valid steps of a sequence; padding stays unchanged.

    As in `keras.layers.Masking`, a step is valid unless all its features equal
    the mask value. Valid steps are found in the input without noise, so a
    `Masking` layer after the noise finds the same steps. Noise and radii refer
    to the vector of valid steps. Certificates hold among inputs with the same
    padding.

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
    """Which steps are valid, that is no padding, as in `keras.layers.Masking`.

    Args:
        x: tensor or array, shape `(..., features)`.
        mask_value: float.

    Returns:
        bool tensor, shape `(..., 1)`.
    """
    x = ops.convert_to_tensor(x)
    # In the type of x: by default, Keras would round it to float32.
    mask_value = ops.convert_to_tensor(mask_value, dtype=x.dtype)
    return ops.any(ops.not_equal(x, mask_value), axis=-1, keepdims=True)
