import keras
import numpy as np
import pytest

import keras_smoothing as ks


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


def columns_without_time(path):
    """The cells of a log, row by row, that two equal runs have in common."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [row[:5] + row[6:] for row in rows]


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
def fashion_mnist():
    """Fashion-MNIST, or a skip where it is neither stored nor to be had."""
    try:
        train = ks.datasets.load("fashion_mnist", "train[:20000]")
        test = ks.datasets.load("fashion_mnist", "test[:64]")
    except Exception as error:
        pytest.skip(f"Fashion-MNIST cannot be loaded: {error}")
    return train, test


@pytest.fixture(autouse=True)
def _restore_policy():
    policy = keras.mixed_precision.global_policy()
    yield
    keras.mixed_precision.set_global_policy(policy)
