import math

import numpy as np

from keras_smoothing import checks
from keras_smoothing.noise.laws.law import Law
from keras_smoothing.noise.laws.law import rounded_up
from keras_smoothing.noise.laws.law import top_half


class Uniform(Law):
    """The law of `keras_smoothing.noise.Uniform`."""

    norm = "l1"

    def __init__(self, half_width):
        self.half_width = checks.noise_scale("half_width", half_width)

    @property
    def stddev(self):
        return self.half_width / math.sqrt(3)

    def radius(self, p_lower):
        return 2 * self.half_width * (top_half(p_lower) - 0.5)

    def shifted(self, p, distance):
        # What the shifted cube no longer covers may all be the event's.
        return np.maximum(p - distance / (2 * self.half_width), 0.0)

    def total_variation(self, distance):
        return rounded_up(np.divide(distance, 2 * self.half_width))

    def get_config(self):
        return {"half_width": self.half_width}
