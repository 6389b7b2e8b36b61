"""The TensorFlow backend."""

import functools

import tensorflow as tf

VERSION = tf.__version__


def compile(function):
    """Compiles a function of tensors to a graph.

    Not to XLA: on a CPU it draws noise some thirty times slower.
    """
    # TensorFlow warns of retracing by code object, and the counters of all
    # models share one; a `partial` has none and is judged by itself.
    function = functools.partial(function)
    return tf.function(function, reduce_retracing=True, autograph=False)


def prefers_xla():
    """Whether Keras may choose XLA for models that draw noise."""
    return bool(tf.config.list_logical_devices("GPU"))


def input_gradient(function, x):
    """Gradient of the sum of `function(x)` with respect to x."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)
