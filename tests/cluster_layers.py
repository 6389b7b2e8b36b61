"""Layers that misbehave on the workers of a cluster, which import them."""

import os
import pathlib
import signal
import sys

import keras
import tensorflow as tf


def on_worker():
    return "default_worker" in sys.argv[0]


@keras.saving.register_keras_serializable(package="tests")
class DiesOnce(keras.layers.Layer):
    """Kills the first worker that runs it, in the middle of its work."""

    def __init__(self, marker, **kwargs):
        super().__init__(**kwargs)
        self.marker = marker

    def call(self, x):
        tf.numpy_function(self._die, [tf.shape(x)[0]], [])
        return tf.identity(x)

    def _die(self, count):
        # A worker that loads the model tries it on no example, or on one.
        if on_worker() and count > 1:
            try:
                pathlib.Path(self.marker).touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    def get_config(self):
        return {**super().get_config(), "marker": self.marker}


@keras.saving.register_keras_serializable(package="tests")
class RefusesLarge(keras.layers.Layer):
    """Raises for values above 100, or kills the worker."""

    def __init__(self, deadly=False, **kwargs):
        super().__init__(**kwargs)
        self.deadly = deadly

    def call(self, x):
        with tf.control_dependencies([tf.numpy_function(self._check, [x], [])]):
            return tf.identity(x)

    def _check(self, x):
        if on_worker() and x.max() > 100:
            if self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("too large")

    def get_config(self):
        return {**super().get_config(), "deadly": self.deadly}


@keras.saving.register_keras_serializable(package="tests")
class NanAboveOne(keras.layers.Layer):
    def call(self, x):
        return keras.ops.where(x > 1, float("nan"), x)
