import math

import numpy as np

from keras_smoothing import checks
from keras_smoothing.noise.laws.law import Law
from keras_smoothing.noise.laws.law import rounded_up
from keras_smoothing.noise.laws.law import top_half


class Laplace(Law):
    """The law of `keras_smoothing.noise.Laplace`."""

    norm = "l1"

    def __init__(self, scale):
        self.scale = checks.noise_scale("scale", scale)

    @property
    def stddev(self):
        return math.sqrt(2) * self.scale

    def radius(self, p_lower):
        with np.errstate(divide="ignore"):  # An infinite radius at p = 1.
            return self.scale * np.log(0.5 / (1 - top_half(p_lower)))

    def shifted(self, p, distance):
        # No event's probability changes by more than this factor, nor does
        # that of its complement.
        factor = np.exp(np.divide(distance, self.scale))
        return np.maximum(p / factor, 1 - (1 - p) * factor)

    def total_variation(self, distance):
        # Where both bounds of `shifted` are equal.
        return rounded_up(np.tanh(np.divide(distance, 2 * self.scale)))

    def get_config(self):
        return {"scale": self.scale}
