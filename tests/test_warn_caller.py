"""Warnings point at the user's line, however deep they are given."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import smoothed

import keras_smoothing as ks


def nan_model():
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Lambda(keras.ops.sqrt)]
    )


def test_warnings_name_the_file_of_the_caller():
    x = np.zeros((1, 2), "float32")
    linear = smoothed(linear_model([1.0, 1.0]))
    noisy = ks.add_input_noise(linear.base_model, ks.noise.Gaussian(0.1))
    sqrt = smoothed(nan_model())
    calls = [
        ("begins with", lambda: ks.SmoothedModel(noisy, linear.noise)),
        ("NaN", lambda: sqrt.certify(x, n=1_000, seed=0, verbose=0)),
        ("NaN", lambda: sqrt.classify(x, seed=0)),
        ("no l2 radius", lambda: linear.certify(x, n=20, verbose=0)),
        ("0..255", lambda: linear.certify(x + 200, verbose=0, n=1_000)),
    ]
    for words, call in calls:
        with pytest.warns(UserWarning, match=words) as caught:
            call()
        files = {w.filename for w in caught if w.category is UserWarning}
        assert files == {__file__}
