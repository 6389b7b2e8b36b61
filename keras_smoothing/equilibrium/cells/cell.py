"""Shapes of what cells are given, and of the states that go with them."""

import keras
from keras import ops

from keras_smoothing.utils import channel_axis


def check_vectors(shape):
    if len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            "Invalid shape of `x`. Expected (batch, ..., features), with a "
            f"known number of features. Received: x.shape={tuple(shape)}"
        )


def check_images(shape, data_format):
    axis = channel_axis(data_format)
    if len(shape) != 4 or shape[axis] is None:
        raise ValueError(
            "Invalid shape of `x`. Expected 4 axes, with a known number of "
            f"channels at axis {axis}. Received: x.shape={tuple(shape)}"
        )


def zero_state(x, channels, axis, dtype):
    """Zeros of the shape of x, but for the `channels` on `axis`."""
    shape = list(ops.shape(x))
    shape[axis] = channels
    return ops.zeros(shape, dtype)


class Cell(keras.layers.Layer):
    """A layer z, x -> f(z, x) whose fixed point is wanted. Base class.

    Any Keras layer that is called with `(z, x)` is a cell. This class adds what
    makes solving fast and general: what does not depend on z is computed once,
    and the state may have another shape than x, several parts, or more in it
    than the output. A subclass defines `init_state`, and either `bind`; or
    `inject` and `iterate`, which `bind` then puts together. These let many
    solves share what depends on the weights alone, and, since an injection is
    affine in x, what noise adds to it.

    Call arguments:
        z: tensor, shape `(batch, ...)`, or a structure of such: the state.
        x: tensor, shape `(batch, ...)`.
    """

    def init_state(self, x):
        """Where the solver starts.

        Args:
            x: tensor, shape `(batch, ...)`.

        Returns:
            tensor, shape `(batch, ...)`, or a structure of such.
        """
        raise TypeError(f"{type(self).__name__} does not define `init_state`.")

    def bind(self, x):
        """The function z -> f(z, x), with all computed that does not need z.

        Args:
            x: tensor, shape `(batch, ...)`.

        Returns:
            function from a state to a state. The cell has been built.
        """
        constants = self.constants()
        return self.iterate(self.inject(x, constants), constants)

    def constants(self):
        """What is computed from the weights alone: a structure of tensors."""
        return ()

    def inject(self, x, constants):
        """What x adds to the iteration, an affine map of x.

        Args:
            x: tensor, shape `(batch, ...)`.
            constants: of `constants`.

        Returns:
            tensor, shape `(batch, ...)`.
        """
        raise TypeError(f"{type(self).__name__} does not define `inject`.")

    def iterate(self, injection, constants):
        """The function z -> f(z, x), from the injection of x.

        Args:
            injection: tensor, shape `(batch, ...)`.
            constants: of `constants`.

        Returns:
            function from a state to a state.
        """
        raise TypeError(f"{type(self).__name__} does not define `iterate`.")

    def read_out(self, z):
        """The output of the equilibrium: its state, or what is made of it.

        Args:
            z: state.

        Returns:
            tensor, or a structure of such.
        """
        return z

    def call(self, z, x):
        return self.bind(x)(z)
