"""Layers that misbehave on the workers of a cluster, which import them."""

import os
import pathlib
import signal
import sys
import threading
import time

import keras
import numpy as np
import tensorflow as tf


def on_worker():
    return "default_worker" in sys.argv[0]


def memory(name):
    """Bytes of this machine, by their name in /proc/meminfo."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


class OneThread:
    """Half a space, asked of a Keras model by the first thread that asks."""

    def __init__(self):
        self.thread = self.model = None

    def __reduce__(self):
        return OneThread, ()

    def __call__(self, x):
        if self.thread is None:
            self.thread = threading.get_ident()
            self.model = keras.Sequential(
                [keras.Input(x.shape[1:]), keras.layers.Dense(2)]
            )
            kernel = np.zeros((x.shape[1], 2))
            kernel[0] = -1, 1
            self.model.set_weights([kernel, np.zeros(2)])
        if threading.get_ident() != self.thread:
            raise RuntimeError("called by another thread")
        return self.model.predict(x, verbose=0)


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
class DiesWhenLoaded(keras.layers.Layer):
    """Kills every worker that loads it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if on_worker():
            os.kill(os.getpid(), signal.SIGKILL)

    def call(self, x):
        return x


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


@keras.saving.register_keras_serializable(package="tests")
class FillsMemoryOnce(keras.layers.Layer):
    """Takes memory on the first worker that runs it, until that is killed.

    At most 9 GiB, and only while others have 3 left. What nobody kills says so.
    """

    def __init__(self, marker, **kwargs):
        super().__init__(**kwargs)
        self.marker = marker

    def call(self, x):
        tf.numpy_function(self._fill, [tf.shape(x)[0]], [])
        return tf.identity(x)

    def _fill(self, count):
        if on_worker() and count > 1:
            try:
                pathlib.Path(self.marker).touch(exist_ok=False)
            except FileExistsError:
                return
            taken = []
            while len(taken) < 72 and memory("MemAvailable") > 3 * 2**30:
                taken.append(np.ones(2**24))  # 128 MiB.
                time.sleep(0.05)  # The monitor looks now and then.
            time.sleep(30)
            pathlib.Path(self.marker).write_text("survived")

    def get_config(self):
        return {**super().get_config(), "marker": self.marker}


@keras.saving.register_keras_serializable(package="tests")
class NotesGPUs(keras.layers.Layer):
    """Notes the GPUs that each of two workers may see, by its process.

    Both those that it may see, and those that TensorFlow found when it was
    imported. A worker waits for the other one, so that both are noted.
    """

    def __init__(self, folder, **kwargs):
        super().__init__(**kwargs)
        self.folder = folder

    def call(self, x):
        tf.numpy_function(self._note, [tf.shape(x)[0]], [])
        return tf.identity(x)

    def _note(self, count):
        if on_worker() and count > 1:
            folder = pathlib.Path(self.folder)
            names = "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES_AT_IMPORT"
            seen = " ".join(os.environ.get(name, "all") for name in names)
            (folder / str(os.getpid())).write_text(seen)
            for _ in range(600):
                if len(list(folder.iterdir())) == 2:
                    break
                time.sleep(0.1)

    def get_config(self):
        return {**super().get_config(), "folder": self.folder}
