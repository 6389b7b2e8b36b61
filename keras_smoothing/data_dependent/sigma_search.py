import numpy as np

from keras_smoothing import checks
from keras_smoothing.answers import FunctionModel
from keras_smoothing.configured import Configured
from keras_smoothing.data_dependent.searcher import Searcher


class SigmaSearch(Configured):
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
            model: `SmoothedModel` or `Counter`.
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
        raise TypeError(f"{type(self).__name__} does not define `climb`.")
