import keras
from keras import ops

from keras_smoothing.noise.laws import Law
from keras_smoothing.wide_dtype import wide_dtype


class Noise(Law):
    """What is added to the input: a distribution with a radius formula.

    Subclasses say how the noise is drawn, in which norm it certifies, and
    which radius follows from a lower bound on the probability of the top
    class. Scales and radii are in the units of the input given to the
    smoothed model, before any normalisation layer inside it.

    Attributes:
        norm: `"l2"`, `"l1"` or `"linf"`, the norm of the certified ball.
        stddev: float, the standard deviation of one coordinate.
        size: int, how many values of an example it is added to, from the first
            on; None for all.
    """

    size = None

    def sample(self, shape, seed):
        """Draws noise.

        Args:
            shape: tuple of ints or int tensor, the shape of the result.
            seed: `keras.random.SeedGenerator` or int.

        Returns:
            float32 tensor of the given shape.
        """
        raise TypeError(f"{type(self).__name__} does not define `sample`.")

    def where(self, x):
        """Which values of examples get noise, if it depends on the example.

        Args:
            x: tensor, shape `(batch, ...)`, examples without noise.

        Returns:
            bool tensor that broadcasts with `x`; None for those that `size`
            says, whatever the example.
        """
        return None

    def checked_sample(self, shape, seed):
        """What `sample` draws, if it is fit for certificates.

        Args:
            shape: as of `sample`.
            seed: as there.

        Returns:
            float32 tensor of the given shape.

        Raises:
            ValueError: for draws that are narrower than float32: on a coarse
                grid, noise is not what a radius formula is about.
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

        What searches and training objectives maximise: differentiable, in
        float32, and no certificate.

        Args:
            p1: float32 tensor, shape `(...)`, in (0, 1): the probability of the
                top class under this noise.
            p2: float32 tensor of that shape, in (0, 1): the largest of the
                others.

        Returns:
            float32 tensor of that shape, in input units; 0 at p1 = p2.
        """
        raise TypeError(f"{type(self).__name__} does not define `soft_radius`.")

    def add_to(self, x, seed):
        """`x` plus fresh noise, summed in float32 or in the type of `x`
        where that is wider.

        The sum is not rounded to a narrower type: a certificate is about
        noise that is added exactly, and what follows the sum belongs to the
        base model.

        Args:
            x: tensor of floating type.
            seed: `keras.random.SeedGenerator` or int.

        Returns:
            tensor of the shape of `x`, float32 or wider.
        """
        return exact_sum(x, self.sample(ops.shape(x), seed))


def exact_sum(x, noise):
    """`x + noise` as in `Noise.add_to`, for noise that is drawn already."""
    # TensorFlow would drop the imaginary part.
    if "complex" in keras.backend.standardize_dtype(x.dtype):
        raise ValueError(
            "Expected inputs of real numbers, which noise is added to. "
            f"Received: dtype {x.dtype}. Put the real and the imaginary part "
            "side by side."
        )
    dtype = wide_dtype(x.dtype)
    return ops.cast(x, dtype) + ops.cast(noise, dtype)
