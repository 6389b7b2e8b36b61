import fcntl
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_smoothing as ks
from keras_smoothing.logs.log_format import Chain


def linear_model(weights, bias=0.0):
    """Class 0 where `weights . x + bias > 0`, else class 1."""
    weights = np.asarray(weights, "float32")
    model = keras.Sequential(
        [keras.Input((len(weights),)), keras.layers.Dense(2)]
    )
    kernel = np.stack([weights, np.zeros_like(weights)], axis=1)
    model.layers[0].set_weights([kernel, np.array([bias, 0], "float32")])
    return model


def small_convnet(input_shape=(8, 8, 1), activation=None):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation=activation),
        ]
    )


def smoothed(base_model, sigma=0.25, **arguments):
    return ks.SmoothedModel(base_model, ks.noise.Gaussian(sigma), **arguments)


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Constant(keras.layers.Layer):
    """The same trainable outputs whatever the input, for each example."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = np.asarray(outputs, "float32")

    def build(self, input_shape):
        self.value = self.add_weight(
            shape=self.outputs.shape,
            initializer=keras.initializers.Constant(self.outputs),
        )

    def call(self, inputs):
        zero = 0 * keras.ops.sum(inputs, axis=-1, keepdims=True)
        return keras.ops.broadcast_to(
            self.value + zero,
            (keras.ops.shape(inputs)[0], len(self.outputs)),
        )


class Masked(keras.layers.Layer):
    """A further class, which is masked."""

    def call(self, inputs):
        outputs = keras.ops.pad(inputs, [[0, 0], [0, 1]])
        mask = np.zeros(outputs.shape[-1])
        mask[-1] = -np.inf
        return outputs + keras.ops.cast(mask, outputs.dtype)


class RootNorm(keras.layers.Layer):
    """The norm, whose gradient in TensorFlow is NaN at 0."""

    def call(self, inputs):
        squares = keras.ops.square(inputs)
        return keras.ops.sqrt(keras.ops.sum(squares, axis=-1, keepdims=True))


def assert_solved(value, exact, tol, radius):
    """That a relative residual of `tol` allows the error, per example.

    Of a map whose Jacobian has norms up to `radius`: the inverse of I - J makes
    an error of a residual.
    """
    error = np.linalg.norm(value - exact, axis=1)
    scale = np.linalg.norm(exact, axis=1)
    assert np.all(error <= tol / (1 - radius) * scale)


def columns_without_time(path):
    """The cells of a log, row by row, that two equal runs have in common."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [row[:5] + row[6:] for row in rows]


def rechain(path):
    """Hashes the rows of a log anew, as whoever forges one can."""
    sidecar = path.with_name(path.name + ".json")
    settings = json.loads(sidecar.read_text())
    heading, *rows = (
        line.rpartition("\t")[0] for line in path.read_text().splitlines()
    )
    chain = Chain(settings, heading)
    lines = [f"{heading}\tchain", *(f"{r}\t{chain.follow(r)}" for r in rows)]
    path.write_text("".join(f"{line}\n" for line in lines))


def to_format(path, number, without=()):
    """Makes a log as an earlier version wrote it, without some columns."""
    sidecar = path.with_name(path.name + ".json")
    settings = {**json.loads(sidecar.read_text()), "format": number}
    sidecar.write_text(json.dumps(settings))
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    kept = [i for i, n in enumerate(rows[0]) if n not in ("chain", *without)]
    path.write_text(
        "".join("\t".join(row[i] for i in kept) + "\n" for row in rows)
    )


@pytest.fixture(scope="session")
def digits():
    return ks.datasets.load("digits", "test[:64]")


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory):
    """A `SmoothedModel` trained on the digits, as a `.keras` file."""
    keras.utils.set_random_seed(0)
    model = smoothed(small_convnet())
    model.compile("adam", logits_loss(), metrics=["accuracy"])
    x, y = ks.datasets.load("digits", "train")
    model.fit(x, y, epochs=15, verbose=0)
    path = tmp_path_factory.mktemp("digits") / "digits.keras"
    model.save(path)
    return path


@pytest.fixture
def digits_model(digits_file):
    return keras.saving.load_model(digits_file)


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory):
    """Fashion-MNIST, or a skip where it is neither stored nor to be had.

    Where it is not stored, its host must answer within 20 seconds; the download
    may then take its time. Of all processes of a test run one asks and
    downloads, while the others wait; if it fails, they skip for its reason.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "no_fashion_mnist").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        reason = file.read()
        if not reason:
            try:
                _ask_for_fashion_mnist(seconds=20)
                train = ks.datasets.load("fashion_mnist", "train[:20000]")
                test = ks.datasets.load("fashion_mnist", "test[:64]")
                return train, test
            except Exception as error:
                reason = f"Fashion-MNIST cannot be loaded: {error}"
                file.write(reason)
    pytest.skip(reason)


def _ask_for_fashion_mnist(seconds):
    import tensorflow_datasets as tfds

    builder = tfds.builder("fashion_mnist")
    if builder.is_prepared():
        return
    url = builder.URL + "t10k-labels-idx1-ubyte.gz"
    # A process can be ended at any time, a search for a host name cannot.
    script = "import sys, urllib.request as r; r.urlopen(sys.argv[1])"
    command = [sys.executable, "-c", script, url]
    try:
        subprocess.run(
            command, check=True, capture_output=True, timeout=seconds
        )
    except subprocess.SubprocessError as error:
        raise ConnectionError(f"no answer from {url}") from error


@pytest.fixture(autouse=True)
def _restore_dtypes():
    floatx = keras.config.floatx()
    policy = keras.mixed_precision.global_policy()
    yield
    keras.config.set_floatx(floatx)
    keras.mixed_precision.set_global_policy(policy)
