"""Base models that are any function."""

import pickle

import keras
import numpy as np
import pytest
from conftest import columns_without_time
from conftest import small_convnet
from conftest import smoothed

import keras_smoothing as ks

SETTINGS = dict(n=400, alpha=0.01, seed=0, verbose=0)


def first_is_positive(x):
    return (x[:, 0] > 0).astype("int64")


def half_plane(function=first_is_positive, **arguments):
    return smoothed(ks.from_function(function, 2, "half-plane", **arguments))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(20, 3)).astype("float32")


def test_around_a_keras_model_certificates_are_equal(digits):
    x, y = digits
    keras.utils.set_random_seed(0)
    base = small_convnet(activation="softmax")
    function = ks.from_function(
        lambda x: base(x, training=False), 10, "the same", (8, 8, 1)
    )
    for group, voting in ((None, "hard"), (ks.groups.D4(), "soft")):
        one, other = (
            ks.SmoothedModel(
                model, ks.noise.Gaussian(0.25), group=group, voting=voting
            )
            for model in (base, function)
        )
        expected = one.certify(x[:20], y[:20], **SETTINGS)
        result = other.certify(x[:20], y[:20], **SETTINGS)
        np.testing.assert_array_equal(result.counts, expected.counts)
        np.testing.assert_array_equal(result.radius, expected.radius)
        assert repr(result) == repr(expected)


def test_no_radius_exceeds_the_distance(x):
    result = half_plane().certify(x, **{**SETTINGS, "n": 20_000})
    certified = result.radius > 0
    assert certified.sum() > 15
    assert (result.radius <= np.abs(x[:, 0])).all()
    np.testing.assert_array_equal(
        result.prediction[certified], first_is_positive(x)[certified]
    )


def test_labels_and_scores_are_the_same_votes(x):
    def scores(x):
        return np.stack([-x[:, 0], x[:, 0]], axis=1).astype("float64")

    labels, scored = (
        half_plane(f).certify(x, **SETTINGS)
        for f in (first_is_positive, scores)
    )
    np.testing.assert_array_equal(labels.counts, scored.counts)
    shares = half_plane(input_shape=(3,)).predict(x, verbose=0)
    np.testing.assert_allclose(shares, labels.counts / 400, atol=0.25)


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y[:, np.newaxis],
        lambda y: y.astype("uint8"),
        lambda y: y == 1,
        lambda y: (y == 1)[:, np.newaxis],
        lambda y: np.eye(2)[y],
        lambda y: np.eye(2, dtype=bool)[y],
    ],
)
def test_classes_come_in_every_form(x, form):
    result = half_plane(lambda x: form(first_is_positive(x))).certify(
        x, **SETTINGS
    )
    expected = half_plane().certify(x, **SETTINGS)
    np.testing.assert_array_equal(result.counts, expected.counts)


def test_logs_memories_and_adaptive_sampling(x, tmp_path):
    stopping = ks.AdaptiveSampling([0.0, 0.25], max_n=2_000)
    settings = {**SETTINGS, "n": None, "stopping": stopping}
    for part in (8, 20):
        half_plane().certify(x[:part], **settings, log=tmp_path / "parts")
    whole = half_plane().certify(x, **settings, log=tmp_path / "whole")
    assert len(set(whole.num_samples)) > 1
    # But for the last column: settings say for how many a log was begun.
    parts, whole = (
        [row[:-1] for row in columns_without_time(tmp_path / n)]
        for n in ("parts", "whole")
    )
    assert parts == whole
    with ks.CertificationMemory() as memory:
        first = half_plane().certify(x, **settings, memory=memory)
        again = half_plane().certify(x, **settings, memory=memory)
    np.testing.assert_array_equal(again.radius, first.radius)
    assert (again.num_samples[again.radius > 0] == 0).all()
    other = smoothed(ks.from_function(first_is_positive, 2, "other"))
    with pytest.raises(ValueError, match="is of another run.*model"):
        other.certify(x, **settings, log=tmp_path / "parts")


def test_it_is_pickled_by_its_function(x):
    again = smoothed(pickle.loads(pickle.dumps(half_plane().base_model)))
    np.testing.assert_array_equal(
        again.certify(x, **SETTINGS).counts,
        half_plane().certify(x, **SETTINGS).counts,
    )


@pytest.mark.parametrize(
    "answer, message",
    [
        (lambda x: np.zeros(len(x) + 1, int), r"Received: shape \(\d+,\)"),
        (
            lambda x: np.full(len(x), 2),
            r"from 0 to 1.*half-plane\(x\)\[0\]=2",
        ),
        (lambda x: np.full(len(x), -1), r"half-plane\(x\)\[0\]=-1"),
        (lambda x: np.zeros((len(x), 3)), r"Received: shape \(\d+, 3\)"),
        (lambda x: np.zeros(len(x)), r"float64.*y.astype\('int64'\)"),
        (lambda x: x[:, 0], r"float32.*return np.stack\(\[1 - p, p\]"),
        (lambda x: x[:, :1], r"float32.*return np.stack\(\[1 - p, p\]"),
        (lambda x: x[:, :2] < 9, r"one-hot .*\[0\]=\[ True  True\]"),
        (lambda x: ["cat"] * len(x), "of type <U3. Return the number of each"),
        (lambda x: 1 // 0, "by zero"),
    ],
)
def test_what_a_function_must_not_return(x, answer, message):
    kind = ZeroDivisionError if "zero" in message else ValueError
    with pytest.raises(kind, match=message):
        half_plane(answer).certify(x, **SETTINGS)


def test_a_function_that_fails_later(x, tmp_path):
    calls = []

    def dies(x):
        calls.append(len(x))
        if len(calls) == 120:
            raise ConnectionError("the service is gone")
        return first_is_positive(x)

    log = tmp_path / "run.tsv"
    with pytest.raises(ConnectionError, match="the service is gone"):
        half_plane(dies).certify(
            np.tile(x, (4, 1)), **SETTINGS, batch_size=160, log=log
        )
    with pytest.warns(UserWarning, match="of 80 examples: its run has not"):
        assert 0 < len(ks.read_log(log)) < 80


def test_nan_is_an_abstention(x):
    def broken(x):
        return np.stack([x[:, 0], np.full(len(x), np.nan)], axis=1)

    with pytest.warns(UserWarning, match="returned NaN"):
        result = half_plane(broken).certify(
            x, **SETTINGS, check_independence=False
        )
    assert (result.prediction == ks.ABSTAIN).all()


def test_what_a_function_cannot(x, tmp_path):
    model = half_plane(input_shape=(3,))
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match="has no weights"):
        model.fit(x, np.zeros(20), verbose=0)
    with pytest.raises(ValueError, match="calls Python"):
        model.export(tmp_path / "exported")
    search = ks.DataDependentSigma(0.1, 0.5)
    with pytest.raises(ValueError, match="gradients"):
        model.certify(x, **SETTINGS, sigma=search)


def test_it_is_not_saved_and_no_file_is_touched(x, tmp_path):
    base = ks.from_function(first_is_positive, 2, "half-plane", (3,))
    path = tmp_path / "model.keras"
    path.write_text("another model")
    inside = keras.Sequential([keras.Input((3,)), keras.layers.ReLU(), base])
    for model in (smoothed(base), smoothed(inside)):
        with pytest.raises(ValueError, match="the function 'half-plane'. Save"):
            model.save(path)
        assert path.read_text() == "another model"
    for other in (inside, model):
        with pytest.raises(ValueError, match="by `ks.from_function`"):
            keras.saving.save_model(other, tmp_path / "other.keras")
    # The rest can.
    model.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("predict", 2, "name"), "Expected a function"),
        ((first_is_positive, 1, "name"), "at least 2 classes"),
        ((first_is_positive, 2.5, "name"), "num_classes=2.5"),
        ((first_is_positive, 2, ""), "Expected a text"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.from_function(*arguments)
