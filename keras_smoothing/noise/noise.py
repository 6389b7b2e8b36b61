import abc
import math

import keras
from keras import ops

from keras_smoothing.certificates import laws
from keras_smoothing.certificates.laws import Law
from keras_smoothing.utils import wide_dtype


class Noise(Law, abc.ABC):
    """Noise added to the input: a distribution with a radius formula.

    Subclasses define how the noise is drawn, in which norm it certifies, and
    which radius follows from a lower bound on the probability of the top
    class. Scales and radii are in the units of the input given to the
    smoothed model, before any normalization layer inside it.

    Attributes:
        norm: `"l2"`, `"l1"` or `"linf"`, the norm of the certified ball.
        stddev: float, the standard deviation of one coordinate.
        size: int, noise is added to the first `size` values of an example; None
            for all.
    """

    size = None

    @abc.abstractmethod
    def sample(self, shape, seed):
        """Draws noise.

        Args:
            shape: tuple of ints or int tensor, the shape of the result.
            seed: `keras.random.SeedGenerator` or int.

        Returns:
            float32 tensor of the given shape.
        """

    def where(self, x):
        """Which values of examples get noise, if this depends on the example.

        Args:
            x: tensor, shape `(batch, ...)`, examples without noise.

        Returns:
            bool tensor that broadcasts with `x`; None if `size` alone decides.
        """
        return None

    def checked_sample(self, shape, seed):
        """Draws noise with `sample`, and checks that it can certify.

        Args:
            shape: as in `sample`.
            seed: as in `sample`.

        Returns:
            float32 tensor of the given shape.

        Raises:
            ValueError: for draws in a type narrower than float32: radius
                formulas do not hold for noise on a coarse grid.
        """
        drawn = self.sample(shape, seed)
        dtype = keras.backend.standardize_dtype(drawn.dtype)
        if dtype not in ("float32", "float64"):
            raise ValueError(
                "Expected noise whose `sample` draws in float32. Received: "
                f"draws of {self} in {dtype}"
            )
        return ops.cast(drawn, "float32")

    def soft_radius(self, p1, p2):
        """Radius of a classifier whose probabilities are known, in a graph.

        Searches and training objectives maximize it. It is differentiable and
        in float32, and is no certificate.

        Args:
            p1: float32 tensor, shape `(...)`, in (0, 1): the probability of the
                top class under this noise.
            p2: float32 tensor of that shape, in (0, 1): the largest probability
                of the other classes.

        Returns:
            float32 tensor of that shape, in input units; 0 at p1 = p2.
        """
        raise TypeError(f"{type(self).__name__} does not define `soft_radius`.")

    def add_to(self, x, seed):
        """Adds fresh noise to `x`, in float32 or in the type of `x` if wider.

        The sum is not rounded to a narrower type: certificates assume that
        noise is added exactly, and everything after the sum belongs to the
        base model.

        Args:
            x: tensor of floating type.
            seed: `keras.random.SeedGenerator` or int.

        Returns:
            tensor of the shape of `x`, float32 or wider.
        """
        return exact_sum(x, self.sample(ops.shape(x), seed))


def exact_sum(x, noise):
    """`x + noise` as in `Noise.add_to`, for noise that was already drawn."""
    # TensorFlow would drop the imaginary part.
    if "complex" in keras.backend.standardize_dtype(x.dtype):
        raise ValueError(
            "Expected inputs of real numbers, which noise is added to. "
            f"Received: dtype {x.dtype}. Put the real and the imaginary part "
            "side by side."
        )
    dtype = wide_dtype(x.dtype)
    return ops.cast(x, dtype) + ops.cast(noise, dtype)


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Gaussian(laws.Gaussian, Noise):
    """Isotropic Gaussian noise, which certifies in the l2 norm.

    Each coordinate is N(0, sigma^2). With the top class at least as probable
    as `p_lower > 1/2`, the smoothed prediction is constant in the l2 ball of
    radius `sigma * Phi^-1(p_lower)`.

    Args:
        sigma: float > 0, the standard deviation, in input units.

    Raises:
        ValueError: if `sigma` is not a finite number > 0.

    Example:

    ```python
    import keras_smoothing as ks

    ks.noise.Gaussian(sigma=0.25).radius([0.5, 0.9, 0.999])
    # [0., 0.3204, 0.7726]
    ```

    Reference:
    - [Cohen, Rosenfeld and Kolter, 2019](https://arxiv.org/abs/1902.02918)
    """

    def sample(self, shape, seed):
        return self.sigma * keras.random.normal(
            shape, dtype="float32", seed=seed
        )

    def soft_radius(self, p1, p2):
        return self.sigma / 2 * (_quantile(p1) - _quantile(p2))


def _quantile(p):
    """Quantile of the standard normal distribution, in a graph."""
    return math.sqrt(2) * ops.erfinv(2 * p - 1)


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Laplace(laws.Laplace, Noise):
    """Laplace noise, which certifies in the l1 norm.

    Each coordinate has density `exp(-|e| / scale) / (2 * scale)`. With the top
    class at least as probable as `p_lower > 1/2`, the smoothed prediction is
    constant in the l1 ball of radius `-scale * ln(2 * (1 - p_lower))`.

    Args:
        scale: float > 0, the mean absolute deviation, in input units.

    Raises:
        ValueError: if `scale` is not a finite number > 0.

    Example:

    ```python
    import keras_smoothing as ks

    ks.noise.Laplace(scale=0.2).radius([0.5, 0.9, 0.999])
    # [0., 0.3219, 1.2429]
    ```

    Reference:
    - [Teng, Lee and Yuan, 2020](https://openreview.net/forum?id=H1lQIgrFDS)
    """

    def sample(self, shape, seed):
        # float32 uniforms are multiples of 2^-23 and include 0, whose quantile
        # is infinite. Adding half a step makes them symmetric about 1/2.
        u = keras.random.uniform(shape, dtype="float32", seed=seed) + 2**-24
        magnitude = -ops.log(2 * ops.minimum(u, 1 - u))
        return self.scale * ops.where(u < 0.5, -magnitude, magnitude)

    def soft_radius(self, p1, p2):
        ratio = ops.log(p1 / p2) / 2
        return self.scale * ops.maximum(ratio, -ops.log(1 - p1 + p2))


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Uniform(laws.Uniform, Noise):
    """Uniform noise on a cube, which certifies in the l1 norm.

    Each coordinate is uniform on `[-half_width, half_width]`. With the top
    class at least as probable as `p_lower > 1/2`, the smoothed prediction is
    constant in the l1 ball of radius `2 * half_width * (p_lower - 1/2)`, so
    no radius exceeds `half_width`.

    Args:
        half_width: float > 0, half the side of the cube, in input units.

    Raises:
        ValueError: if `half_width` is not a finite number > 0.

    Example:

    ```python
    import keras_smoothing as ks

    ks.noise.Uniform(half_width=0.5).radius([0.5, 0.9, 0.999])
    # [0., 0.4, 0.499]
    ```

    Reference:
    - [Yang et al., 2020](https://arxiv.org/abs/2002.08118)
    """

    def sample(self, shape, seed):
        return keras.random.uniform(
            shape,
            minval=-self.half_width,
            maxval=self.half_width,
            dtype="float32",
            seed=seed,
        )

    def soft_radius(self, p1, p2):
        return self.half_width * (p1 - p2)
