"""The TensorFlow backend."""

import tensorflow as tf

VERSION = tf.__version__


def compile(function):
    """Compiles a function of tensors to a graph.

    Not to XLA: on a CPU it draws noise some thirty times slower.
    """
    return tf.function(function, reduce_retracing=True, autograph=False)


def prefers_xla():
    """Whether Keras may choose XLA for models that draw noise."""
    return bool(tf.config.list_logical_devices("GPU"))
