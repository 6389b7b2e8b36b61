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


def input_gradient(function, x, has_aux=False):
    """Gradient of the sum of `function(x)` with respect to x.

    With `has_aux`, `function` returns a pair, whose second part is handed on:
    the result is (gradient, second part).
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value, aux = function(x) if has_aux else (function(x), None)
    gradient = tape.gradient(value, x)
    return (gradient, aux) if has_aux else gradient
