"""What the noise of each example is multiplied by."""

import numpy as np

from keras_smoothing.warn_caller import warn_caller


def find(searcher, x, *, stddev, seed, index):
    """The scales of a window of examples.

    Args:
        searcher: `Searcher`, or None for the noise as it is.
        x: float32 array, shape `(examples, ...)`.
        stddev: float, the standard deviation of the noise as it is.
        seed: int, the root of all draws.
        index: int array, shape `(examples,)`, their numbers in the run.

    Returns:
        float32 array, shape `(examples,)` or `(examples, ...)`. Noise is
        multiplied in that type, and so the radius is by the same numbers.
    """
    if searcher is None:
        return np.ones(len(x), np.float32)
    found = searcher(x, seed)
    if found.failed.any():
        warn_caller(
            "The base model returned NaN in the search for sigma, so "
            f"example(s) {index[found.failed]} get the noise of the model, "
            f"sigma={stddev}.",
        )
    return (found.sigma / stddev).astype(np.float32)


def least(scale):
    """The smallest scale of each example: float64 array, `(examples,)`."""
    return scale.reshape(len(scale), -1).min(axis=1).astype(np.float64)


def mean(scale):
    """Their geometric mean, of which rounding makes no less than the least.

    Args:
        scale: float array, shape `(examples,)` or `(examples, ...)`.

    Returns:
        float64 array, shape `(examples,)`.
    """
    scale = scale.reshape(len(scale), -1).astype(np.float64)
    if scale.shape[1] == 1:
        return scale[:, 0]
    # A product of hundreds of them underflows.
    return np.maximum(np.exp(np.log(scale).mean(axis=1)), scale.min(axis=1))
