"""The base class of cells, and checks of their input shapes."""

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
    """Zeros of the shape of x, but with size `channels` on `axis`."""
    shape = list(ops.shape(x))
    shape[axis] = channels
    return ops.zeros(shape, dtype)


class Cell(keras.layers.Layer):
    """A layer z, x -> f(z, x) whose fixed point a solver finds. Base class.

    Any Keras layer called with `(z, x)` is a cell. This class makes solving
    faster and more general: terms that do not depend on z are computed once,
    and the state may differ in shape from x, have several parts, or hold more
    than the output. A subclass defines `init_state`, and either `bind`, or
    `inject` and `iterate`, which `bind` combines. With `inject` and `iterate`,
    many solves share the terms that depend only on the weights. Since an
    injection is affine in x, they also share the noise's contribution to it.

    Call arguments:
        z: tensor, shape `(batch, ...)`, or a structure of them: the state.
        x: tensor, shape `(batch, ...)`.
    """

    def init_state(self, x):
        """The state from which the solver starts.

        Args:
            x: tensor, shape `(batch, ...)`.

        Returns:
            tensor, shape `(batch, ...)`, or a structure of them.
        """
        raise TypeError(f"{type(self).__name__} does not define `init_state`.")

    def bind(self, x):
        """The function z -> f(z, x), with terms independent of z precomputed.

        The cell must be built.

        Args:
            x: tensor, shape `(batch, ...)`.

        Returns:
            function from a state to a state.
        """
        constants = self.constants()
        return self.iterate(self.inject(x, constants), constants)

    def constants(self):
        """A structure of tensors that depend only on the weights."""
        return ()

    def inject(self, x, constants):
        """The injection of x into the iteration, an affine map of x.

        Args:
            x: tensor, shape `(batch, ...)`.
            constants: as returned by `constants`.

        Returns:
            tensor, shape `(batch, ...)`.
        """
        raise TypeError(f"{type(self).__name__} does not define `inject`.")

    def iterate(self, injection, constants):
        """The function z -> f(z, x), given the injection of x.

        Args:
            injection: tensor, shape `(batch, ...)`.
            constants: as returned by `constants`.

        Returns:
            function from a state to a state.
        """
        raise TypeError(f"{type(self).__name__} does not define `iterate`.")

    def read_out(self, z):
        """The output at the equilibrium: the state, or a function of it.

        Args:
            z: state.

        Returns:
            tensor, or a structure of tensors.
        """
        return z

    def call(self, z, x):
        return self.bind(x)(z)
