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


class SigmaSearch(Configured, abc.ABC):
    """How much noise an example is certified with: what looks best for it.

    Base class. A subclass says in `climb` how it is found; `search` does it for
    examples. Sigma of an example depends on the base model, the example, the
    settings and the seed, and not on other examples. Its draws are neither
    those that select a class nor those that estimate its probability, so that a
    certificate with the noise that was found is as true as with any other.

    Attributes:
        num_draws: int, noisy copies from which a radius is estimated.
        beta: float, the inverse temperature of the probabilities of a draw.
        sigma_min: float, the least sigma that is found.
    """

    num_draws = None
    beta = None
    sigma_min = None

    def search(self, model, x, seed=0):
        """Finds sigma for examples.

        Args:
            model: `keras_smoothing.SmoothedModel`.
            x: float32 array, shape `(examples, ...)`.
            seed: int, the root of the draws, as in `certify`.

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
        """Raises ValueError for a model whose noise cannot be chosen so.

        Args:
            model: `SmoothedModel` or `Sampler`.
        """
        model.noise.radius(0.5)  # Raises where there is no formula.
        # What the noise of the model is multiplied by, in float32.
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
        """The search for one example, in a graph.

        Args:
            gap: function from sigma, a float32 scalar or tensor of the shape of
                an example, to a scalar: by how much of sigma the class is
                certified, so that `sigma * gap(sigma)` is the radius.
            stddev: float, sigma of the model's noise.
            shape: tuple, the shape of an example.

        Returns:
            sigma: float32 scalar or tensor of shape `shape`.
            sigma_trace: float32 tensor, shape `(steps + 1,)`.
            value_trace: float32 tensor of that shape.
        """


# Of a mean over a hundred draws, probabilities closer to 0 and 1 say nothing,
# and their quantiles are too steep.
_CLAMP = 1e-3


class Searcher(Rebuilt):
    """A `SigmaSearch`, compiled for a model.

    Examples are searched one after the other, each with all draws in one batch,
    so that what is found for one is the same, bit by bit, whatever others there
    are. The base model is in inference mode and keeps its statistics.

    Args:
        search: `SigmaSearch`.
        model: `SmoothedModel` or `Sampler`: what has a base model, noise,
            voting and a group.

    Raises:
        ValueError: for a model whose noise cannot be chosen so.
    """

    def __init__(self, search, model):
        search.check(model)
        self._search = search
        # A sampler has it as its base model.
        self._base_model = getattr(model, "classifier", model.base_model)
        self._noise = model.noise
        self._group = model.group
        # Soft votes have the probabilities themselves for their expectation.
        self._beta = 1.0 if model.voting == "soft" else search.beta
        self._from_logits = None
        self._compiled = backend.compile(self._find)

    @property
    def sigma_min(self):
        """float, the least sigma that is found."""
        return self._search.sigma_min

    def get_config(self):
        """All that sigma depends on beside model, example and seed."""
        return keras.saving.serialize_keras_object(self._search)

    def __call__(self, x, seed):
        """Finds sigma for examples.

        Args:
            x: float32 array, shape `(examples, ...)`.
            seed: int, the root of the draws.

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
    """The radius that draws suggest, differentiable: no certificate.

    Args:
        log_p: float32 tensor, shape `(draws, ..., classes)`: logarithms of the
            probabilities of each draw.
        noise: `keras_smoothing.noise.Noise`.
        beta: float > 0, the inverse temperature: large for votes, which a
            draw has one of; 1 for the probabilities as they are.

    Returns:
        float32 tensor, shape `(...)`, in input units.
    """
    p = ops.mean(ops.softmax(beta * log_p), axis=0)
    p = ops.top_k(p, 2)[0]
    p = ops.clip(p, _CLAMP, 1 - _CLAMP)
    return noise.soft_radius(p[..., 0], p[..., 1])
