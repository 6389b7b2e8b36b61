"""Adaptive sampling through `certify`: draws, batches, logs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import columns_without_time
from conftest import linear_model
from conftest import rechain
from conftest import smoothed

import keras_smoothing as ks
from keras_smoothing.sampling import VoteSampler

STOPPING = ks.AdaptiveSampling([0.0, 0.25, 0.5], max_n=5_000)
SETTINGS = dict(n0=20, stopping=STOPPING, alpha=0.01, seed=0, verbose=0)


@pytest.fixture(scope="module")
def model():
    return smoothed(linear_model([1.0, 0.0, 0.0]), sigma=0.5)


@pytest.fixture(scope="module")
def x():
    x = np.zeros((150, 3), "float32")
    x[:, 0] = np.random.default_rng(0).uniform(-1, 1, len(x))
    return x


@pytest.fixture
def calls(monkeypatch):
    """The (examples, stream, start, stop) of each call of `count`."""
    calls = []
    count = VoteSampler.count

    def counted(self, x, *, stream, start, stop, **arguments):
        calls.append((len(x), stream, start, stop))
        return count(
            self, x, stream=stream, start=start, stop=stop, **arguments
        )

    monkeypatch.setattr(VoteSampler, "count", counted)
    return calls


def test_the_draws_are_the_first_ones_of_fixed_sampling(model, x):
    result = model.certify(x, **SETTINGS)
    assert len(np.unique(result.num_samples)) > 3
    for n in np.unique(result.num_samples):
        fixed = model.certify(
            x, **{**SETTINGS, "stopping": ks.FixedSampling(int(n))}
        )
        same = result.num_samples == n
        np.testing.assert_array_equal(result.counts[same], fixed.counts[same])
        # A look has a share of alpha: its radius is a little smaller.
        assert (result.radius[same] <= fixed.radius[same]).all()


def test_results_depend_on_neither_batch_size_nor_order(model, x):
    whole = model.certify(x, **SETTINGS)
    backwards = model.certify(x[::-1], **SETTINGS)
    small = model.certify(x, batch_size=50, **SETTINGS)
    alone = [model.certify(x[i : i + 1], **SETTINGS) for i in (0, 70, 149)]
    for name in ("counts", "num_samples", "radius", "prediction"):
        values = getattr(whole, name)
        np.testing.assert_array_equal(values, getattr(backwards, name)[::-1])
        np.testing.assert_array_equal(values, getattr(small, name))
        np.testing.assert_array_equal(
            values[[0, 70, 149]], [getattr(one, name)[0] for one in alone]
        )


def test_no_draw_is_spent_on_a_finished_example(model, x, calls):
    result = model.certify(x, **SETTINGS)
    draws = sum(n * (stop - start) for n, _, start, stop in calls)
    assert draws == np.sum(20 + result.num_samples)
    assert draws < 0.3 * len(x) * 5_000


@pytest.mark.slow
def test_forward_batches_stay_full(x):
    sizes = []

    class Watch(keras.layers.Layer):
        def call(self, inputs):
            note = tf.py_function(
                lambda n: sizes.append(int(n)), [tf.shape(inputs)[0]], []
            )
            with tf.control_dependencies([note] if note is not None else []):
                return tf.identity(inputs)

    base = keras.Sequential(
        [keras.Input((3,)), Watch(), *linear_model([1.0, 0.0, 0.0]).layers]
    )
    stopping = ks.AdaptiveSampling([0.0, 0.25, 0.5])
    result = smoothed(base, sigma=0.5).certify(
        x,
        **{**SETTINGS, "stopping": stopping},
        batch_size=512,
        check_independence=False,
    )
    draws = np.sum(20 + result.num_samples)
    assert sum(sizes) == draws
    assert len(sizes) < 1.1 * draws / 512
    assert max(sizes) <= 512


def test_labels_change_nothing_but_the_score(model, x):
    plain = model.certify(x, **SETTINGS)
    right = model.certify(x, (x[:, 0] <= 0).astype(int), **SETTINGS)
    wrong = model.certify(x, (x[:, 0] > 0).astype(int), **SETTINGS)
    for other in (right, wrong):
        np.testing.assert_array_equal(plain.counts, other.counts)
        np.testing.assert_array_equal(plain.radius, other.radius)
    assert right.certified_accuracy(0) > 0.9
    assert wrong.certified_accuracy(0) < 0.05


@pytest.mark.parametrize("rows", [0, 1, 100, 128, 140])
def test_resume_in_the_middle_equals_an_undisturbed_run(
    model, x, tmp_path, rows
):
    path = tmp_path / "run.tsv"
    whole = model.certify(x, log=path, **SETTINGS)
    expected = columns_without_time(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: rows + 1]) + b"12\t3")
    resumed = model.certify(x, log=path, **SETTINGS)
    assert columns_without_time(path) == expected
    read = ks.read_log(path)
    for result in (resumed, read):
        for name in ("counts", "num_samples", "radius", "prediction"):
            np.testing.assert_array_equal(
                getattr(result, name), getattr(whole, name)
            )
    assert repr(read.stopping) == repr(STOPPING)


def test_a_log_with_draws_between_the_looks_is_refused(model, x, tmp_path):
    path = tmp_path / "run.tsv"
    result = model.certify(x[:3], log=path, **SETTINGS)
    n = str(result.num_samples[1])
    lines = path.read_text().splitlines()
    row = lines[2].split("\t")
    row[row.index(n)] = str(int(n) + 1)
    path.write_text("\n".join([*lines[:2], "\t".join(row), lines[3]]) + "\n")
    rechain(path)
    for read in (
        lambda: ks.read_log(path),
        lambda: model.certify(x[:3], log=path, **SETTINGS),
    ):
        with pytest.raises(ValueError, match="among the looks"):
            read()


def test_nan_ends_the_draws_of_its_example_alone():
    class Log(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.concatenate([keras.ops.log(inputs), inputs], 1)

    model = smoothed(keras.Sequential([keras.Input((1,)), Log()]), sigma=1.0)
    x = np.array([[10.0], [1.0]], "float32")
    with pytest.warns(UserWarning, match=r"returned NaN .* example\(s\) \[1\]"):
        result = model.certify(
            x, stopping=ks.AdaptiveSampling([0.0, 3.0]), seed=0, verbose=0
        )
    np.testing.assert_array_equal(result.prediction, [1, ks.ABSTAIN])
    assert result.num_samples[1] == result.stopping.looks[0]
    assert result.num_samples[0] > result.num_samples[1]


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(n=100), "either `n` or `stopping`"),
        (dict(stopping=1_000), "Expected a stopping rule"),
        (
            dict(stopping=ks.AdaptiveSampling([0.0], max_n=10), alpha=0.0001),
            "Expected n >= 14 at alpha=0.0001",
        ),
    ],
)
def test_bad_arguments_are_named(model, x, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.certify(x, **{**SETTINGS, **arguments})


def test_the_progress_bar_reaches_its_end(model, x, capsys):
    model.certify(x, **{**SETTINGS, "verbose": 1})
    assert "150/150" in capsys.readouterr().out
