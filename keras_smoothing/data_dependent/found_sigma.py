from typing import NamedTuple

import numpy as np


class FoundSigma(NamedTuple):
    """What a search for sigma found.

    Attributes:
        sigma: float64 array, shape `(examples,)`, or `(examples, ...)` with one
            for each coordinate: standard deviations of the noise, in input
            units.
        failed: bool array, shape `(examples,)`: where the base model returned
            NaN. There sigma is that of the model's noise.
        sigma_trace: float32 array, shape `(examples, steps + 1)`: sigma before
            each step and after the last; of one for each coordinate the
            geometric mean.
        value_trace: float32 array of that shape: what was maximised.
    """

    sigma: np.ndarray
    failed: np.ndarray
    sigma_trace: np.ndarray
    value_trace: np.ndarray
