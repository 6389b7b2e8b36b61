import math

import keras
from keras import ops

from keras_smoothing.noise.noise import Noise


@keras.saving.register_keras_serializable(package="keras_smoothing")
class OneInput(Noise):
    """Noise of one input of several, which stand side by side in an example.

    The input comes first, flat; to all that follows nothing is added, and of
    that nothing is certified: the ball is one of this input alone.

    Args:
        noise: `keras_smoothing.noise.Noise` of the input.
        input: str, the name of the input.
        shape: tuple of ints, its shape in one example.
    """

    def __init__(self, noise, input, shape):
        self.noise = noise
        self.input = input
        self.shape = tuple(shape)

    def __repr__(self):
        return f"{self.noise} of {self.input!r}"

    @property
    def norm(self):
        return self.noise.norm

    @property
    def stddev(self):
        return self.noise.stddev

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

    def radius(self, p_lower):
        return self.noise.radius(p_lower)

    def soft_radius(self, p1, p2):
        return self.noise.soft_radius(p1, p2)

    def shifted(self, p, distance):
        return self.noise.shifted(p, distance)

    def total_variation(self, distance):
        return self.noise.total_variation(distance)

    def get_config(self):
        return {
            "noise": keras.saving.serialize_keras_object(self.noise),
            "input": self.input,
            "shape": list(self.shape),
        }

    @classmethod
    def from_config(cls, config):
        noise = keras.saving.deserialize_keras_object(config["noise"])
        return cls(**{**config, "noise": noise})
