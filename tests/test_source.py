"""What is read of a source of examples, when, and what is bad of it."""

import re
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import smoothed

import keras_smoothing as ks
from keras_smoothing.certificates.examples import Examples
from keras_smoothing.certify.dataset import Entries
from keras_smoothing.certify.dataset import open_source

SHAPE = (4, 4, 1)
SIZES = (1, 20, 3, 0, 17, 9)


class Batches(keras.utils.PyDataset):
    """Batches as they are given; keeps what is asked of it."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return self.batches[index]

    @property
    def num_batches(self):
        return len(self.batches)

    def on_epoch_begin(self):
        raise AssertionError("An epoch is for training.")

    on_epoch_end = on_epoch_begin


def split(array, sizes=SIZES):
    return np.split(array, np.cumsum(sizes)[:-1])


def batches(x, y):
    return Batches(list(zip(split(x), split(y), strict=True)))


def dicts(x, y):
    """tf.data of dicts, which hold more than is asked for."""
    return tf.data.Dataset.from_tensor_slices(
        {"name": y.astype(str), "label": y, "image": x}
    )


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE, name="image")
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(image))
    return smoothed(keras.Model(image, outputs))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.random((sum(SIZES), *SHAPE)).astype("float32")
    return x, rng.integers(0, 3, len(x))


@pytest.fixture(scope="module")
def expected(model, data):
    return certify(model, *data)


def certify(model, x, y=None, **arguments):
    settings = dict(n=200, alpha=0.01, seed=0, verbose=0)
    return model.certify(x, y, **{**settings, **arguments})


def open_examples(x, window=16):
    source = open_source(x, None, Entries(), shape=SHAPE, window=window)
    return Examples(source, shape=SHAPE, window=window, limit=1e3, norm="l2")


KEYS = dict(x_key="image", y_key="label")
RARE_FORMS = {
    "one-hot": lambda x, y: (batches(x.astype("float64"), np.eye(3)[y]), {}),
    "dict of tensors": lambda x, y: (
        {"image": tf.constant(x), "label": tf.constant(y)},
        dict(y_key="label"),
    ),
    "dict by key and y": lambda x, y: ({"a": x, "b": 0}, dict(y=y, x_key="a")),
    "by input name": lambda x, y: (dicts(x, y), dict(y_key="label")),
    "with a ragged entry": lambda x, y: (
        dicts(x, y).map(
            lambda entries: {**entries, "ragged": tf.range(entries["label"])}
        ),
        KEYS,
    ),
}


@pytest.mark.parametrize("form", RARE_FORMS.values(), ids=RARE_FORMS)
def test_rare_forms_give_the_same_certificates(model, data, expected, form):
    form, arguments = form(*data)
    result = certify(model, form, **arguments)
    np.testing.assert_array_equal(result.counts, expected.counts)
    np.testing.assert_array_equal(result.radius, expected.radius)
    np.testing.assert_array_equal(result.label, data[1])


def test_a_random_self_ensemble_takes_them_too(data):
    image = keras.Input(SHAPE, name="image")
    noisy = ks.layers.GaussianNoiseAlways(0.25)(image)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(noisy))
    base = keras.Model(image, outputs)
    ensemble = ks.RandomSelfEnsemble(base, from_logits=True)
    result = certify(ensemble, dicts(*data), y_key="label")
    np.testing.assert_array_equal(result.label, data[1])


def test_a_py_dataset_is_read_once_in_order_and_as_it_is_used(data):
    x, y = data
    dataset = batches(x, y)
    windows = open_examples(dataset).windows(3)
    # Of sizes 1, 20, 3, 0, 17, 9: the first window needs two batches.
    assert dataset.read == [0, 1]
    sizes, read = [], []
    for window, _, _ in windows:
        sizes.append(len(window))
        read.append(dataset.read[-1])
    assert sizes == [16, 16, 16, 2]
    assert read == [1, 4, 5, 5]
    assert dataset.read == list(range(len(SIZES)))


def test_batches_are_let_go():
    alive = []

    class Fresh(keras.utils.PyDataset):
        num_batches = 12
        most = 0

        def __getitem__(self, index):
            batch = np.full((100, *SHAPE), index, "float32")
            alive.append(weakref.ref(batch))
            self.most = max(self.most, sum(r() is not None for r in alive))
            return batch

    dataset = Fresh()
    for _ in open_examples(dataset).windows(3):
        pass
    # A loop lets go of one when it has the next.
    assert len(alive) == 12 and dataset.most == 2


def test_batches_may_share_a_buffer(data):
    x, _ = data

    class Reusing(keras.utils.PyDataset):
        num_batches = 5
        buffer = np.zeros((10, *SHAPE), "float32")

        def __getitem__(self, index):
            self.buffer[:] = x[10 * index :][:10]
            return self.buffer

    windows = [x for x, _, _ in open_examples(Reusing()).windows(3)]
    np.testing.assert_array_equal(np.concatenate(windows), x)


@pytest.mark.parametrize(
    "form,total,exact_total",
    [
        (lambda x: x, 50, 50),
        (lambda x: Batches([x]), 50, 50),
        (lambda x: Batches(split(x, (20, 20, 10))), 60, None),
        (lambda x: Batches([x[:0], *split(x, (25, 25))]), 75, None),
        (lambda x: tf_data(x), 50, 50),
        (lambda x: tf_data(x).batch(20), 60, None),
        (lambda x: tf_data(x).batch(50), 50, 50),
        (lambda x: tf_data(x).batch(10, drop_remainder=True), 50, 50),
        (lambda x: tf_data(x).filter(lambda _: True), None, None),
        (lambda x: tf_data(x).batch(20).filter(lambda _: True), None, None),
    ],
)
def test_the_total_is_exact_only_where_it_is_certain(
    data, form, total, exact_total
):
    examples = open_examples(form(data[0]))
    assert (examples.total, examples.exact_total) == (total, exact_total)


def tf_data(x):
    return tf.data.Dataset.from_tensor_slices(x)


def broken(data, example, value):
    """Batches with one bad value; 32 examples are two windows of 16."""
    x, y = data
    x = x.copy()
    x[example, 1, 1, 0] = value
    return batches(x, y)


def with_last(data, *last):
    """Batches of which the last one, from example 41 on, is another."""
    *rest, _ = batches(*data).batches
    return Batches([*rest, last if len(last) > 1 else last[0]])


@pytest.mark.parametrize(
    "form,message",
    [
        (lambda d: broken(d, 45, np.nan), "NaN or infinity in example 45"),
        (lambda d: broken(d, 45, 1e4), "float32 resolves the noise"),
        (lambda d: with_last(d, d[0][:9, :3], d[1][:9]), r"shape \(9, 3, 4, 1"),
        (lambda d: with_last(d, d[0][0], d[1][:4]), r"shape \(4, 4, 1\)"),
        (lambda d: with_last(d, d[0][:9], d[1][:8]), r"\(9, .* shape \(8,\)"),
        (lambda d: with_last(d, d[0][:9].astype("uint8"), d[1][:9]), "uint8"),
        (lambda d: with_last(d, d[0][:2], [0, 3]), r"y\[42\]=3"),
        (lambda d: with_last(d, d[0][:2], [0, -1]), r"y\[42\]=-1"),
        (lambda d: with_last(d, d[0][:2]), "without, from example 41 on"),
        (lambda d: with_last(d, d[0], d[1], d[1]), "has no weight"),
        (lambda d: with_last(d, {"a": d[0]}, d[1]), r"entries \['a'\]"),
    ],
)
def test_a_bad_batch_keeps_the_rows_before(
    model, data, tmp_path, form, message
):
    path = tmp_path / "run.tsv"
    with pytest.raises(ValueError, match=message):
        certify(model, form(data), log=path)
    assert len(ks.read_log(path)) == 32


class Endless(Batches):
    num_batches = None


GOOD = np.zeros((3, *SHAPE), "float32")
NO_DICTS = "Expected dicts, for x_key='image'"
BOTH = "either beside the dict or in it"
REFUSED = "generators and lists of batches are not. Received: x of type"


@pytest.mark.parametrize(
    "x,arguments,message",
    [
        (Endless([GOOD]), {}, "a dataset without end"),
        (Batches([]), {}, "at least one example"),
        (Batches([GOOD[:0]]), {}, "at least one example"),
        (Batches([GOOD]), dict(y=[0, 1, 2]), "no `y` beside a dataset"),
        (Batches([(GOOD, [0] * 3, [1] * 3)]), {}, "3 components.* no weight"),
        (Batches([()]), {}, "Received: elements of 0 components"),
        (Batches([[GOOD, [0, 1, 2, 0]]]), {}, "as many labels as examples"),
        (Batches([GOOD[0]]), {}, r"Received: shape \(4, 4, 1\)"),
        (Batches([None]), {}, "Received: x of type .*NoneType"),
        (Batches([GOOD]), dict(x_key="image"), NO_DICTS),
        (Batches([GOOD]), dict(y_key="label"), "for y_key='label'"),
        (Batches([{"a": GOOD}]), {}, r"entry 'image', .*`x_key`.* \['a'\]"),
        (GOOD, dict(x_key="image"), NO_DICTS),
        (GOOD, dict(x_key="image", y=[0, 1, 2]), NO_DICTS),
        ({"a": GOOD}, {}, r"entry 'image', .*`x_key`.* entries \['a'\]"),
        ({"image": GOOD}, dict(x_key="a"), r"entry 'a', .*`x_key`.*'image'"),
        ({"image": GOOD}, dict(y_key="a"), r"entry 'a', .*`y_key`.*'image'"),
        ({"image": GOOD}, dict(y=[0, 1]), "as many labels as examples"),
        ({"image": GOOD}, dict(y=[0, 1, 2], y_key="label"), BOTH),
        ({"image": {"image": GOOD}}, {}, "Received: x of type .*dict"),
        (tf_data(GOOD), dict(x_key="image"), NO_DICTS),
        (tf_data({"a": GOOD}), {}, r"entry 'image', .* entries \['a'\]"),
        (tf_data({"image": GOOD}), dict(y_key="b"), r"entry 'b', .*'image'"),
        (tf_data(({"image": GOOD}, [0] * 3)), dict(y_key="label"), BOTH),
        (tf_data((GOOD, [0] * 3, [1] * 3)), {}, "3 components.* no weight"),
        (tf_data({"image": {"a": GOOD}}), {}, "tensors of known rank"),
        ((part for part in [GOOD]), {}, REFUSED),
        ([GOOD, GOOD[:2]], {}, REFUSED),
        ([(GOOD, [0, 1, 2])], {}, REFUSED),
        (iter(tf_data(GOOD)), {}, REFUSED),
        ([GOOD, GOOD], {}, re.escape("Received: shape (2, 3, 4, 4, 1)")),
    ],
)
def test_bad_forms_are_named_and_write_nothing(
    model, tmp_path, x, arguments, message
):
    with pytest.raises(ValueError, match=message) as error:
        certify(model, x, log=tmp_path / "run.tsv", **arguments)
    assert "in user code" not in str(error.value)  # As of traced functions.
    assert not list(tmp_path.iterdir())


def test_the_first_batch_decides_about_sizes_left_open():
    base = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    sizes = [np.zeros((2, size, size, 1), "float32") for size in (5, 8)]
    with pytest.raises(ValueError, match=r"\(examples, 5, 5, 1\)"):
        certify(smoothed(base), Batches(sizes))
