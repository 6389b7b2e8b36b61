"""Laws of noise on the host: from probabilities to radii."""

import math

import numpy as np
from scipy.special import erf
from scipy.special import ndtr
from scipy.special import ndtri

from . import checks
from .utils import Configured


class Law(Configured):
    """Converts class probabilities under noise into certified radii.

    A subclass has the name and the arguments of the noise with this law.

    Attributes:
        norm: `"l2"`, `"l1"` or `"linf"`, the norm of the certified ball.
        stddev: float, the standard deviation of one coordinate.
    """

    norm = None

    @property
    def distance(self):
        """The distance that radii measure, in words."""
        return self.norm

    def radius(self, p_lower):
        """Certified radius from a lower bound on the top class probability.

        Args:
            p_lower: float or float array, shape `(...)`, in [0, 1].

        Returns:
            float64 array, shape `(...)`: the radius in `norm`, in input
            units; 0 where `p_lower` is at most 1/2.
        """
        raise TypeError(f"{type(self).__name__} does not define `radius`.")

    def shifted(self, p, distance):
        """How improbable an event can become when the input moves.

        Args:
            p: float array, shape `(...)`, the event's probability, or a lower
                bound on it.
            distance: float array, broadcastable with `p`: the largest distance
                that the input moves, in `norm` and in input units.

        Returns:
            float64 array, shape `(...)`: a lower bound on the probability of
            the event after the move.
        """
        raise TypeError(f"{type(self).__name__} does not define `shifted`.")

    def total_variation(self, distance):
        """How much likelier an event can become when the input moves.

        It is also the probability that a draw around one point differs from a
        draw around the other, under the best coupling of both.

        Args:
            distance: float array, shape `(...)`: the largest distance that the
                input moves, in `norm` and in input units.

        Returns:
            float64 array, shape `(...)`, in [0, 1]: an upper bound on the
            change of any probability; 0 where `distance` is 0.
        """
        distance = np.asarray(distance, np.float64)
        found = np.zeros(distance.shape)
        # Both terms grow with p, so steps of a grid bound the values between.
        p = np.linspace(0.0, 1.0, 2**16 + 1)
        for where in zip(*np.nonzero(distance), strict=True):
            change = p[1:] - self.shifted(p[:-1], distance[where])
            found[where] = change.max()
        return rounded_up(found)


def rounded_up(probability):
    """The probability, raised by the error of its formula; at most 1."""
    return np.minimum(probability * (1 + 2.0**-40), 1.0)


def top_half(p_lower):
    """`p_lower` in float64, raised to 1/2 where it is below.

    Every radius formula is 0 at 1/2, which is the radius of an abstention.
    """
    p_lower = np.asarray(p_lower, dtype=np.float64)
    if not np.all((p_lower >= 0) & (p_lower <= 1)):
        raise ValueError(
            "Invalid value for argument `p_lower`. Expected probabilities in "
            f"[0, 1]. Received: p_lower={p_lower}"
        )
    return np.maximum(p_lower, 0.5)


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
        # Neither the probability of an event nor that of its complement
        # changes by more than this factor.
        factor = np.exp(np.divide(distance, self.scale))
        return np.maximum(p / factor, 1 - (1 - p) * factor)

    def total_variation(self, distance):
        # Where both bounds of `shifted` are equal.
        return rounded_up(np.tanh(np.divide(distance, 2 * self.scale)))

    def get_config(self):
        return {"scale": self.scale}


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
        # The event may contain all that the shifted cube no longer covers.
        return np.maximum(p - distance / (2 * self.half_width), 0.0)

    def total_variation(self, distance):
        return rounded_up(np.divide(distance, 2 * self.half_width))

    def get_config(self):
        return {"half_width": self.half_width}


def needed_probability(noise, radius):
    """The probability that an event needs to stay likelier than not in a ball.

    Args:
        noise: `Law`.
        radius: float array, shape `(...)`, of the ball, in input units.

    Returns:
        float64 array, shape `(...)`: a tight upper bound on the least p for
        which `noise.shifted(p, radius)` is at least 1/2; 1 where no probability
        is enough.
    """
    radius = np.asarray(radius, np.float64)
    low, high = np.full(radius.shape, 0.5), np.ones(radius.shape)
    high = np.where(noise.shifted(low, radius) >= 0.5, low, high)
    for _ in range(60):
        middle = (low + high) / 2
        enough = noise.shifted(middle, radius) >= 0.5
        low, high = np.where(enough, (low, middle), (middle, high))
    return high
