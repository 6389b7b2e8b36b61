import numpy as np
import pytest

import keras_smoothing as ks


def test_digits_are_split_and_scaled():
    x_train, y_train = ks.datasets.load("digits", "train")
    x_test, y_test = ks.datasets.load("digits", "test")
    assert x_train.shape == (1437, 8, 8, 1) and x_test.shape == (360, 8, 8, 1)
    assert x_train.dtype == np.float32 and y_train.dtype == np.int64
    assert (x_train.min(), x_train.max()) == (0, 1)
    assert set(y_test) == set(range(10))
    some, labels = ks.datasets.load("digits", "test[5:8]")
    np.testing.assert_array_equal(some, x_test[5:8])
    np.testing.assert_array_equal(labels, y_test[5:8])


@pytest.mark.parametrize("split", ["validation", "test[", "test[:5%]", ""])
def test_unknown_splits_are_refused(split):
    with pytest.raises(ValueError, match="Expected a split such as"):
        ks.datasets.load("digits", split)


def test_fashion_mnist_comes_scaled(fashion_mnist):
    (x, y), _ = fashion_mnist
    assert x.shape == (20_000, 28, 28, 1) and x.dtype == np.float32
    assert (x.min(), x.max()) == (0, 1)
    assert set(y) == set(range(10))
