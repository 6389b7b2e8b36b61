import math

import keras
import numpy as np
from keras import ops

from keras_smoothing.noise.noise import Gaussian
from keras_smoothing.noise.noise import Laplace
from keras_smoothing.noise.noise import Noise
from keras_smoothing.noise.noise import Uniform


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Distribution(Noise):
    """Noise from any `tensorflow_probability` distribution.

    Training and prediction work with any distribution over real numbers.
    Certification needs a radius formula, which is known for a scalar `Normal`,
    `Laplace` or `Uniform` with constant parameters. Its centre may differ from
    0 as long as float32 resolves it there: a shift common to all noise moves
    the base model's input, but changes no distance. For all other
    distributions, `radius` raises an error.

    Args:
        distribution: `tensorflow_probability.distributions.Distribution`. Its
            batch shape followed by its event shape must equal the last axes
            of the input; a scalar distribution is drawn for each coordinate.

    Raises:
        ValueError: if `distribution` is of another type, draws in a type
            narrower than float32, or has a radius formula and a scale that
            float32 cannot represent.

    Example:

    ```python
    import keras_smoothing as ks
    import tensorflow_probability as tfp

    noise = ks.noise.Distribution(tfp.distributions.StudentT(4.0, 0.0, 0.1))
    noise.sample((2, 28, 28, 1), seed=0).shape
    # (2, 28, 28, 1)
    ```
    """

    def __init__(self, distribution):
        tfd = _distributions()
        if not isinstance(distribution, tfd.Distribution):
            raise ValueError(
                "Invalid value for argument `distribution`. Expected a "
                "tensorflow_probability distribution. Received: "
                f"distribution={distribution!r} of type {type(distribution)}"
            )
        _check_precision(distribution)
        self.distribution = distribution
        self.equivalent = _with_radius_formula(distribution)

    def __repr__(self):
        return f"Distribution({self.equivalent or self.distribution})"

    @property
    def norm(self):
        return self.equivalent.norm if self.equivalent else None

    @property
    def stddev(self):
        try:
            return float(np.max(self.distribution.stddev()))
        except NotImplementedError:  # Not every distribution defines it.
            return math.nan

    def sample(self, shape, seed):
        own_shape = tuple(
            self.distribution.batch_shape + self.distribution.event_shape
        )
        lead = len(shape) - len(own_shape)
        if lead < 0 or tuple(shape[lead:]) != own_shape:
            raise ValueError(
                "Expected a shape that ends with the distribution's batch and "
                f"event shape {own_shape}. Received: shape={tuple(shape)}"
            )
        if isinstance(seed, int):
            seed = keras.random.SeedGenerator(seed)
        draws = self.distribution.sample(
            shape[:lead], seed=ops.cast(seed.next(), "int32")
        )
        return ops.cast(draws, "float32")

    def radius(self, p_lower):
        return self._with_formula().radius(p_lower)

    def soft_radius(self, p1, p2):
        return self._with_formula().soft_radius(p1, p2)

    def shifted(self, p, distance):
        return self._with_formula().shifted(p, distance)

    def total_variation(self, distance):
        if self.equivalent is None:
            return super().total_variation(distance)
        return self.equivalent.total_variation(distance)

    def _with_formula(self):
        if self.equivalent is None:
            raise ValueError(
                "No radius formula is known for this noise, so nothing can be "
                "certified with it. Expected a scalar Normal, Laplace or "
                "Uniform distribution of constant parameters, centred near 0. "
                f"Received: {self.distribution}"
            )
        return self.equivalent

    def get_config(self):
        return {"distribution": _to_config(self.distribution)}

    @classmethod
    def from_config(cls, config):
        return cls(_from_config(config["distribution"]))


def _distributions():
    try:
        import tensorflow_probability as tfp
    except ImportError as error:
        raise ImportError(
            "ks.noise.Distribution needs TensorFlow Probability: "
            "pip install keras_smoothing[probability]"
        ) from error
    return tfp.distributions


def _check_precision(distribution):
    """Raises for draws in a narrow type, which lie on a coarse grid."""
    if distribution.dtype in ("float16", "bfloat16"):
        raise ValueError(
            "Expected a distribution that draws in float32 or a wider type. "
            "Narrower draws lie on a coarse grid, which is not the noise that "
            f"radius formulas are about. Received: {distribution}"
        )


def _with_radius_formula(distribution):
    """The `Noise` equal to a distribution up to a shift, or None."""
    tfd = _distributions()
    if tuple(distribution.batch_shape + distribution.event_shape):
        return None
    if distribution.variables:  # The formula would not follow them.
        return None
    # The exact type: a subclass may be another distribution altogether.
    kind = type(distribution)
    if kind is tfd.Normal:
        centre, noise = distribution.loc, Gaussian(float(distribution.scale))
    elif kind is tfd.Laplace:
        centre, noise = distribution.loc, Laplace(float(distribution.scale))
    elif kind is tfd.Uniform:
        low, high = float(distribution.low), float(distribution.high)
        centre, noise = (low + high) / 2, Uniform((high - low) / 2)
    else:
        return None
    return noise if abs(float(centre)) <= 1_000 * noise.stddev else None


def _to_config(distribution):
    """Name and parameters, as JSON types."""
    tfd = _distributions()

    def plain(name, value):
        if isinstance(value, tfd.Distribution):
            return _to_config(value)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if name == "dtype":
            return keras.backend.standardize_dtype(value)
        try:
            return np.asarray(value, dtype=np.float64).tolist()
        except (TypeError, ValueError) as error:
            raise ValueError(
                "This distribution cannot be saved. Expected parameters that "
                "are numbers, arrays or distributions. Received: "
                f"{name}={value!r} in {distribution}"
            ) from error

    return {
        "distribution_name": type(distribution).__name__,
        "parameters": {
            name: plain(name, value)
            for name, value in distribution.parameters.items()
            if name != "name"
        },
    }


def _from_config(config):
    tfd = _distributions()
    kind = getattr(tfd, config["distribution_name"], None)
    if not (isinstance(kind, type) and issubclass(kind, tfd.Distribution)):
        raise ValueError(
            "Expected the name of a tensorflow_probability distribution. "
            f"Received: {config['distribution_name']!r}"
        )
    return kind(
        **{
            name: _from_config(value) if isinstance(value, dict) else value
            for name, value in config["parameters"].items()
        }
    )
