import math

import numpy as np
from scipy.special import erf
from scipy.special import ndtr
from scipy.special import ndtri

from keras_smoothing import checks
from keras_smoothing.noise.laws.law import Law
from keras_smoothing.noise.laws.law import rounded_up
from keras_smoothing.noise.laws.law import top_half


class Gaussian(Law):
    """The law of `keras_smoothing.noise.Gaussian`."""

    norm = "l2"

    def __init__(self, sigma):
        self.sigma = checks.noise_scale("sigma", sigma)

    @property
    def stddev(self):
        return self.sigma

    def radius(self, p_lower):
        return self.sigma * ndtri(top_half(p_lower))

    def shifted(self, p, distance):
        return ndtr(ndtri(p) - distance / self.sigma)

    def total_variation(self, distance):
        # 2 * Phi(distance / 2 sigma) - 1
        steps = np.divide(distance, self.sigma)
        return rounded_up(erf(steps / math.sqrt(8)))

    def get_config(self):
        return {"sigma": self.sigma}
