"""PyDatasets and dicts, as `fit` takes them, to certify and classify."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import columns_without_time
from conftest import linear_model
from conftest import smoothed

import keras_smoothing as ks

SETTINGS = dict(n=200, alpha=0.01, seed=0, verbose=0)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), name="pixels")
    return smoothed(keras.Model(inputs, keras.layers.Dense(3)(inputs)))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.random((50, 5)).astype("float32")
    return x, rng.integers(0, 3, 50)


class Batches(keras.utils.PyDataset):
    """Batches of given sizes, each as `make(x, y)` has it."""

    def __init__(self, x, y, sizes, make=lambda x, y: (x, y)):
        super().__init__()
        self.ends = np.cumsum([0, *sizes])
        assert self.ends[-1] == len(x)
        self.x, self.y, self.make = x, y, make
        self.read = []

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, i):
        self.read.append(i)
        part = slice(self.ends[i], self.ends[i + 1])
        return self.make(self.x[part], self.y[part])

    def on_epoch_end(self):
        pytest.fail("a dataset that shuffles would not be in order")


def as_dict(x, y):
    return {"image": x, "label": y, "id": y + 100}


def forms(x, y):
    """All ways to give x and y: (arguments of certify, name)."""
    dataset = tf.data.Dataset.from_tensor_slices
    keys = dict(x_key="image", y_key="label")
    named = {"pixels": x, "other": y}
    return {
        "PyDataset": dict(x=Batches(x, y, [50])),
        "uneven": dict(x=Batches(x, y, [1, 20, 0, 16, 13])),
        "list pairs": dict(x=Batches(x, y, [25, 25], lambda *xy: [*xy])),
        "tensors": dict(
            x=Batches(x, y, [9, 41], lambda x, y: (tf.constant(x), y))
        ),
        "PyDataset of dicts": dict(x=Batches(x, y, [30, 20], as_dict), **keys),
        "PyDataset by name": dict(
            x=Batches(x, y, [30, 20], lambda x, y: ({"pixels": x}, y))
        ),
        "dicts": dict(x=dataset(as_dict(x, y)), **keys),
        "batched dicts": dict(x=dataset(as_dict(x, y)).batch(7), **keys),
        "dicts by name": dict(x=dataset((named, y)).batch(7)),
        "array in a dict": dict(x=named, y=y),
        "arrays in a dict": dict(x=as_dict(x, y), **keys),
    }


def test_every_form_gives_the_same_certificates(model, data):
    x, y = data
    expected = model.certify(x, y, **SETTINGS)
    labels = model.classify(x, seed=0)
    for name, arguments in forms(x, y).items():
        result = model.certify(**arguments, **SETTINGS)
        np.testing.assert_array_equal(result.counts, expected.counts, name)
        np.testing.assert_array_equal(result.label, y, name)
        arguments.pop("y", None)
        arguments.pop("y_key", None)
        answer = model.classify(**arguments, seed=0)
        np.testing.assert_array_equal(answer, labels, name)


def test_noise_in_front_keeps_the_name_of_the_input(model, data):
    x, y = data
    noisy = ks.add_input_noise(model.base_model, model.noise)
    result = ks.SmoothedModel(noisy).certify({"pixels": x}, y, **SETTINGS)
    expected = model.certify(x, y, **SETTINGS)
    np.testing.assert_array_equal(result.counts, expected.counts)


def test_without_y_key_a_dict_has_no_labels(model, data):
    dataset = tf.data.Dataset.from_tensor_slices(as_dict(*data))
    result = model.certify(dataset, x_key="image", **SETTINGS)
    assert result.label is None
    alone = Batches(*data, [50], lambda x, y: x)
    assert model.certify(alone, **SETTINGS).label is None
    alone = Batches(*data, [50], lambda x, y: (x,))
    assert model.certify(alone, **SETTINGS).label is None


def test_a_py_dataset_is_read_as_it_is_used(model, data, tmp_path):
    x, y = data
    dataset = Batches(x, y, [10] * 5)
    read = []
    sampler = model._sampler()
    count = sampler.count

    def watched(*arguments, **settings):
        read.append(len(dataset.read))
        return count(*arguments, **settings)

    sampler.count = watched
    try:
        model.certify(dataset, log=tmp_path / "run.tsv", **SETTINGS)
    finally:
        del sampler.count
    # The first window of 16 needs two batches, and no more is read for it.
    assert read[0] == 2 and read[-1] == 5
    assert dataset.read == list(range(5))


def test_a_py_dataset_resumes_a_log(model, data, tmp_path):
    x, y = data
    path = tmp_path / "run.tsv"
    whole = model.certify(Batches(x, y, [20, 30]), log=path, **SETTINGS)
    expected = columns_without_time(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:18]))
    resumed = model.certify(Batches(x, y, [7, 43]), log=path, **SETTINGS)
    assert columns_without_time(path) == expected
    np.testing.assert_array_equal(resumed.radius, whole.radius)
    with pytest.raises(ValueError, match="log is of other examples"):
        model.certify(Batches(x[::-1], y, [50]), log=path, **SETTINGS)


def test_what_is_bad_late_loses_nothing_before(model, data, tmp_path):
    x, y = data
    x = x.copy()
    x[43, 2] = np.nan
    path = tmp_path / "run.tsv"
    with pytest.raises(ValueError, match="NaN or infinity in example 43"):
        model.certify(Batches(x, y, [10] * 5), log=path, **SETTINGS)
    assert len(ks.read_log(path)) == 32
    x[43, 2] = 0.5
    model.certify(Batches(x, y, [10] * 5), log=path, **SETTINGS)
    assert len(ks.read_log(path)) == 50


def test_the_number_of_examples_is_known_where_it_is_certain(model, data):
    x, y = data
    settings = dict(SETTINGS, family_wise=True)
    result = model.certify(Batches(x, y, [50]), **settings)
    assert result.alpha == SETTINGS["alpha"] / 50
    with pytest.raises(ValueError, match="a known number of examples"):
        model.certify(Batches(x, y, [25, 25]), **settings)


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, i):
        return np.zeros((2, 5), "float32")


def bad(x, y):
    dataset = tf.data.Dataset.from_tensor_slices(as_dict(x, y))
    return {
        "an entry 'pixels'.*entries \\['image', 'label', 'id'\\]": [
            dict(x=dataset),
            dict(x=as_dict(x, y)),
            dict(x=Batches(x, y, [50], as_dict)),
        ],
        "an entry 'picture', or the name of another as `x_key`": [
            dict(x=dataset, x_key="picture")
        ],
        "an entry 'class', or the name of another as `y_key`": [
            dict(x=dataset, x_key="image", y_key="class")
        ],
        "Expected dicts, for x_key='image'": [
            dict(x=x, x_key="image"),
            dict(x=Batches(x, y, [50]), x_key="image"),
        ],
        "either beside the dict or in it": [
            dict(x=as_dict(x, y), y=y, x_key="image", y_key="label")
        ],
        "A certificate has no weight": [
            dict(x=Batches(x, y, [50], lambda x, y: (x, y, y))),
            dict(x=tf.data.Dataset.from_tensor_slices((x, y, y))),
        ],
        "Expected no `y` beside a dataset": [
            dict(x=Batches(x, y, [50]), y=y),
        ],
        "a dataset without end": [dict(x=Endless())],
        "generators and lists of batches are not": [
            dict(x=(batch for batch in [x]))
        ],
        "as many labels as examples": [
            dict(x=Batches(x, y, [50], lambda x, y: (x, y[1:])))
        ],
        "Expected `x` of shape \\(examples, 5\\)": [
            dict(x=Batches(x, y, [50], lambda x, y: (x[:, 1:], y)))
        ],
        "at least one example": [
            dict(x=Batches(x[:0], y[:0], [0])),
            dict(x=Batches(x[:0], y[:0], [])),
        ],
    }


def test_bad_input_is_named(model, data, tmp_path):
    path = tmp_path / "run.tsv"
    for message, cases in bad(*data).items():
        for arguments in cases:
            with pytest.raises(ValueError, match=message):
                model.certify(**arguments, log=path, **SETTINGS)
    assert not path.exists()


def test_batches_with_and_without_labels_are_refused(model, data):
    x, y = data

    def make(x, y):
        return (x, y) if len(x) > 10 else x

    with pytest.raises(ValueError, match="with every batch or with none"):
        model.certify(Batches(x, y, [40, 10], make), **SETTINGS)


def test_a_model_without_named_inputs_asks_for_the_key(data):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = linear_model(np.ones(5))

        def call(self, x, training=None):
            return self.inner(x)

    base = Subclassed()
    base(data[0])
    with pytest.raises(ValueError, match="Expected `x_key`"):
        smoothed(base).certify(as_dict(*data), **SETTINGS)
    smoothed(base).certify(as_dict(*data), x_key="image", **SETTINGS)
