import math
from typing import NamedTuple

import numpy as np

from keras_smoothing.promises import Head
from keras_smoothing.promises import Promise


class Record(NamedTuple):
    """What is known of one example after sampling.

    Attributes:
        label: int or None.
        candidate: int, the selected class; `ABSTAIN` if the model returned NaN.
        counts: int64 array, shape `(classes,)`.
        num_samples: int, draws of the estimate.
        nan_draws: int, draws for which the model returned NaN.
        scale: float, what its noise was multiplied by; of scales for each
            coordinate the smallest.
        mean_scale: float, their geometric mean.
        time: float, seconds.
        digest: str, a hash of the example.
        findings: dict from names to ints or to int64 arrays, shape
            `(classes,)`: what the counter found beside the votes.
        promise: `keras_smoothing.promises.Promise` of a memory, or None where
            there is no memory.
        rounding: float, how far the example that was drawn for is from the one
            that was passed in, in the norm of the noise.
        memory_alpha: float, the sum of the alphas of all queries of the memory
            once the window of the example was answered; None where that is not
            known.
        memory_head: `keras_smoothing.promises.Head` of the memory at that time,
            or None likewise.
    """

    label: int | None
    candidate: int
    counts: np.ndarray
    num_samples: int
    nan_draws: int
    scale: float
    mean_scale: float
    time: float
    digest: str
    findings: dict
    promise: Promise | None = None
    rounding: float = 0.0
    memory_alpha: float | None = None
    memory_head: Head | None = None


def check_rounding(rounding):
    """Raises ValueError for what is no distance."""
    if not 0 <= rounding < math.inf:
        raise ValueError(f"a distance expected, {rounding=} received")
