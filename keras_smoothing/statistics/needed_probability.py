import numpy as np


def needed_probability(noise, radius):
    """How probable an event must be, to be more likely than not in a ball.

    Args:
        noise: `Law`.
        radius: float array, shape `(...)`, of the ball, in input units.

    Returns:
        float64 array, shape `(...)`: an upper bound on the least p for which
        `noise.shifted(p, radius)` is at least 1/2, close to it; 1 where no
        probability is enough.
    """
    radius = np.asarray(radius, np.float64)
    low, high = np.full(radius.shape, 0.5), np.ones(radius.shape)
    high = np.where(noise.shifted(low, radius) >= 0.5, low, high)
    for _ in range(60):
        middle = (low + high) / 2
        enough = noise.shifted(middle, radius) >= 0.5
        low, high = np.where(enough, (low, middle), (middle, high))
    return high
