import numpy as np

from keras_smoothing.configured import Configured


class Law(Configured):
    """What a probability under noise says of how far the input may move.

    A subclass is named like the noise that has this law, and takes the same
    arguments.

    Attributes:
        norm: `"l2"`, `"l1"` or `"linf"`, the norm of the certified ball.
        stddev: float, the standard deviation of one coordinate.
    """

    norm = None

    @property
    def distance(self):
        """What radii measure, in words."""
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
            distance: float array, broadcastable with `p`: how far the input
                moves at most, in `norm` and in input units.

        Returns:
            float64 array, shape `(...)`: a lower bound on the probability of
            the event after the move.
        """
        raise TypeError(f"{type(self).__name__} does not define `shifted`.")

    def total_variation(self, distance):
        """How much likelier an event can become when the input moves.

        It is also the least probability with which a draw around one point has
        to differ from a draw around the other, if the two are made together.

        Args:
            distance: float array, shape `(...)`: how far the input moves at
                most, in `norm` and in input units.

        Returns:
            float64 array, shape `(...)`, in [0, 1]: an upper bound on the
            change of any probability; 0 where `distance` is 0.
        """
        distance = np.asarray(distance, np.float64)
        found = np.zeros(distance.shape)
        # Both sides grow with p, so the steps of a grid bound the rest.
        p = np.linspace(0.0, 1.0, 2**16 + 1)
        for where in zip(*np.nonzero(distance), strict=True):
            change = p[1:] - self.shifted(p[:-1], distance[where])
            found[where] = change.max()
        return rounded_up(found)


def rounded_up(probability):
    """Above the error of the formula it was computed by; at most 1."""
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
