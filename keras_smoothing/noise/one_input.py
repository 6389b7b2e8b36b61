import math

import keras
from keras import ops

from keras_smoothing.noise.noise_on_part import NoiseOnPart


@keras.saving.register_keras_serializable(package="keras_smoothing")
class OneInput(NoiseOnPart):
    """Noise of one input of several, which stand side by side in an example.

    The input comes first, flat; to all that follows nothing is added, and of
    that nothing is certified: the ball is one of this input alone.

    Args:
        noise: `keras_smoothing.noise.Noise` of the input.
        input: str, the name of the input.
        shape: tuple of ints, its shape in one example.
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
