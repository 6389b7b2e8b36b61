import abc
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.base_model import FunctionModel
from keras_smoothing.certificates import checks
from keras_smoothing.certificates import tiles
from keras_smoothing.certificates.utils import Configured
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.sampling import noise_blocks
from keras_smoothing.sampling import returns_probabilities
from keras_smoothing.utils import Rebuilt


class FoundSigma(NamedTuple):
    """The result of a search for sigma.

    Attributes:
        sigma: float64 array, shape `(examples,)`, or `(examples, ...)` with one
            sigma per coordinate: standard deviations of the noise, in input
            units.
        failed: bool array, shape `(examples,)`: True where the base model
            returned NaN. There sigma is that of the model's noise.
        sigma_trace: float32 array, shape `(examples, steps + 1)`: sigma before
            each step and after the last; with one sigma per coordinate, their
            geometric mean.
        value_trace: float32 array of the same shape: the maximised value.
    """

    sigma: np.ndarray
    failed: np.ndarray
    sigma_trace: np.ndarray
    value_trace: np.ndarray


class SigmaSearch(Configured, abc.ABC):
    """Base class of searches for the noise that suits each example best.

    Subclasses implement the search in `climb`; `search` runs it for examples.
    An example's sigma depends on the base model, the example, the settings and
    the seed, but not on other examples. The search uses its own draws: not
    those that select a class, nor those that estimate its probability. So a
    certificate with the noise found is as valid as with any other noise.

    Attributes:
        num_draws: int, the number of noisy copies that a radius is estimated
            from.
        beta: float, the inverse temperature of the probabilities of a draw.
        sigma_min: float, the smallest sigma that the search may return.
    """

    num_draws = None
    beta = None
    sigma_min = None

    def search(self, model, x, seed=0):
        """Finds sigma for examples.

        Args:
            model: `keras_smoothing.SmoothedModel`.
            x: float32 array, shape `(examples, ...)`.
            seed: int, the seed of the draws, as in `certify`.

        Returns:
            `FoundSigma`.

        Raises:
            ValueError: for bad input, or noise without a radius formula.
        """
        x = np.asarray(x)
        if x.dtype.kind != "f" or x.ndim < 2 or not len(x):
            raise ValueError(
                "Expected `x` to be an array of shape (examples, ...), of "
                f"floating type. Received: {x.dtype} of shape {x.shape}"
            )
        return Searcher(self, model)(x.astype("float32"), checks.seed(seed))

    def check(self, model):
        """Raises ValueError if the search does not support the model.

        Args:
            model: `SmoothedModel` or `Sampler`.
        """
        model.noise.radius(0.5)  # Raises if there is no formula.
        # The model's noise is multiplied by this factor, in float32.
        checks.noise_scale(
            "sigma_min / stddev of the noise",
            self.sigma_min / model.noise.stddev,
        )
        if isinstance(model.base_model, FunctionModel):
            raise ValueError(
                "Expected a base model with gradients, which the search for "
                f"sigma climbs. Received: {model.base_model!r}"
            )

    @abc.abstractmethod
    def climb(self, gap, stddev, shape):
        """Searches sigma for one example, in a graph.

        Args:
            gap: function from sigma, a float32 scalar or tensor of the shape of
                an example, to a scalar: the estimated radius in units of sigma,
                so that `sigma * gap(sigma)` is the radius.
            stddev: float, sigma of the model's noise.
            shape: tuple, the shape of an example.

        Returns:
            sigma: float32 scalar or tensor of shape `shape`.
            sigma_trace: float32 tensor, shape `(steps + 1,)`.
            value_trace: float32 tensor of the same shape.
        """


# In a mean over a hundred draws, probabilities closer to 0 or 1 are not
# meaningful, and their quantiles are too steep.
_CLAMP = 1e-3


class Searcher(Rebuilt):
    """A `SigmaSearch`, compiled for a model.

    Examples are searched one by one, each with all draws in one batch. So the
    result for one example is bit-identical whatever the other examples are. The
    base model runs in inference mode and keeps its statistics.

    Args:
        search: `SigmaSearch`.
        model: `SmoothedModel` or `Sampler`, which has a base model, noise,
            voting and a group.

    Raises:
        ValueError: if the search does not support the model.
    """

    def __init__(self, search, model):
        search.check(model)
        self._search = search
        # In a sampler, the classifier is the base model.
        self._base_model = getattr(model, "classifier", model.base_model)
        self._noise = model.noise
        self._group = model.group
        # The expectation of soft votes is the probabilities themselves.
        self._beta = 1.0 if model.voting == "soft" else search.beta
        self._from_logits = None
        self._compiled = backend.compile(self._find)

    @property
    def sigma_min(self):
        """float, the smallest sigma that the search may return."""
        return self._search.sigma_min

    def get_config(self):
        """Everything that sigma depends on besides model, example and seed."""
        return keras.saving.serialize_keras_object(self._search)

    def __call__(self, x, seed):
        """Finds sigma for examples.

        Args:
            x: float32 array, shape `(examples, ...)`.
            seed: int, the seed of the draws.

        Returns:
            `FoundSigma`.
        """
        shape = x.shape[1:]
        if self._from_logits is None:
            self._from_logits = not returns_probabilities(
                self._base_model, shape
            )
        count = -(-self._search.num_draws // tiles.tile_size(shape))
        seeds = tiles.tile_seeds(seed, tiles.SEARCH, 0, count)
        found = self._compiled(
            shape, ops.convert_to_tensor(x), ops.convert_to_tensor(seeds)
        )
        sigma, sigma_trace, value_trace = map(ops.convert_to_numpy, found)
        failed = ~np.isfinite(value_trace).all(axis=1)
        where = failed.reshape((-1,) + (1,) * (sigma.ndim - 1))
        return FoundSigma(
            np.where(where, self._noise.stddev, sigma.astype(np.float64)),
            failed,
            sigma_trace,
            value_trace,
        )

    def _find(self, shape, x, seeds):
        drawn = noise_blocks.draw_tiles(seeds, shape, self._noise, self._group)
        count = self._search.num_draws
        noise, elements = drawn.noise[:count], drawn.elements[:count]
        stddev = self._noise.stddev

        def of_one(example):
            copies, there = ops.reshape(example, (1, *shape)), noise
            where = self._noise.where(copies)
            if where is not None:
                there = ops.where(where, noise, 0.0)
            if self._group is not None:
                copies = self._group.orbit(copies, elements)[0]

            def gap(sigma):
                noisy = copies + sigma / stddev * there
                noisy = backend.drop_nonfinite_gradients(noisy)
                outputs = self._base_model(noisy, training=False)
                log_p = log_probabilities(outputs, self._from_logits)
                return soft_radius(log_p, self._noise, self._beta) / stddev

            return self._search.climb(gap, stddev, shape)

        return backend.map(of_one, x)


def soft_radius(log_p, noise, beta):
    """Estimates a radius from draws, differentiably. It is not a certificate.

    Args:
        log_p: float32 tensor, shape `(draws, ..., classes)`: logarithms of the
            probabilities of each draw.
        noise: `keras_smoothing.noise.Noise`.
        beta: float > 0, the inverse temperature: large values approximate one
            vote per draw; 1 leaves the probabilities unchanged.

    Returns:
        float32 tensor, shape `(...)`, in input units.
    """
    p = ops.mean(ops.softmax(beta * log_p), axis=0)
    p = ops.top_k(p, 2)[0]
    p = ops.clip(p, _CLAMP, 1 - _CLAMP)
    return noise.soft_radius(p[..., 0], p[..., 1])
