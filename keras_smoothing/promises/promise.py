from typing import NamedTuple

import numpy as np


class Promise(NamedTuple):
    """What is promised of a point: the class of all points around it.

    They are those at most `radius` away, in the norm of the memory. With one
    scale for each coordinate, a step along a coordinate counts `min(scale) /
    scale` of its length, so that the ball of the radius is the largest inside
    the ellipsoid that is promised.

    Attributes:
        prediction: int; `ks.ABSTAIN` (-1) where nothing is promised.
        radius: float >= 0, in input units; 0 promises the point alone.
        scale: float > 0, or float32 array of the shape of an example: what the
            noise of the certificate was multiplied by.
        alpha: float, the probability that the certificate is wrong.
        stddev: float > 0, the standard deviation of the noise that was
            multiplied.
        noise: str, that noise in words, such as "Gaussian(sigma=0.25)"; empty
            where it is not known.
    """

    prediction: int
    radius: float
    scale: float | np.ndarray
    alpha: float
    stddev: float = 1.0
    noise: str = ""
