"""Certificates of several labels, from request to log."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import smoothed
from keras import ops
from test_segmentation import CORRECTIONS
from test_segmentation import assert_equal
from test_segmentation import network

import keras_smoothing as ks

SETTINGS = dict(n=500, alpha=0.01, seed=0, verbose=0)
LABELS, FEATURES = 5, 8


def several(base, sigma=0.25, **arguments):
    return ks.SmoothedMultiLabel(base, ks.noise.Gaussian(sigma), **arguments)


def linear(activation=None):
    """A linear score for each label, the weights and the bias."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(FEATURES, LABELS)), rng.normal(size=LABELS)]
    base = keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(LABELS, activation)]
    )
    base.set_weights(weights)
    return base, *weights


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, FEATURES)).astype("float32") / 3
    return x, rng.integers(-1, 2, (40, LABELS))


@pytest.mark.parametrize(
    "activation,threshold", [(None, 0.5), ("sigmoid", 0.8)]
)
def test_no_radius_exceeds_the_distance_of_a_linear_score(
    examples, activation, threshold
):
    x, _ = examples
    base, weights, bias = linear(activation)
    limit = np.log(threshold / (1 - threshold))
    score = x.astype("f8") @ weights + bias - limit
    distance = np.abs(score) / np.linalg.norm(weights, axis=0)
    model = several(base, threshold=threshold)
    settings = {**SETTINGS, "n": 20_000, "alpha": 1e-3, "batch_size": 2_000}
    whole = model.certify(x, **settings)
    for correction in CORRECTIONS:
        result = whole.recertify(1e-3, **correction)
        certified = result.radius > 0
        np.testing.assert_array_equal(
            result.prediction[certified], (score > 0)[certified]
        )
        assert (result.radius <= distance).all()
        if "radius" in correction:
            assert certified[distance > 0.165].all()
        else:
            near = certified & (distance < 0.5)
            assert near.sum() > 60
            assert (result.radius[near] > 0.85 * distance[near] - 0.02).all()


def test_each_label_has_the_votes_of_a_binary_classifier(examples):
    x, _ = examples
    base, *weights = linear()
    result = several(base).certify(x, **SETTINGS, correction=None)
    for label in range(LABELS):
        one = keras.Sequential(
            [keras.Input((FEATURES,)), keras.layers.Dense(1)]
        )
        one.set_weights([w[..., label : label + 1] for w in weights])
        other = smoothed(one).certify(x, **SETTINGS)
        np.testing.assert_array_equal(
            result.candidate[:, label], other.candidate
        )
        votes = np.take_along_axis(
            other.counts, other.candidate[:, np.newaxis], axis=1
        )
        # Where rounding decides, the two need not agree.
        assert np.abs(result.votes[:, label] - votes[:, 0]).max() <= 1


def test_batches_order_and_cut_logs_change_no_certificate(examples, tmp_path):
    x, y = examples
    model, log = several(linear()[0]), tmp_path / "run.tsv"
    result = model.certify(x, y, **SETTINGS, log=log)
    assert_equal(model.certify(x, y, **SETTINGS, batch_size=7), result)
    order = np.random.default_rng(0).permutation(40)
    assert_equal(model.certify(x[order], **SETTINGS), result[order])
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    assert_equal(model.certify(x, y, **SETTINGS, log=log), result)
    read = ks.read_log(log)
    assert isinstance(read, ks.MultiLabelResult)
    assert_equal(read, result)
    with pytest.raises(ValueError, match="is of another run"):
        several(linear()[0], threshold=0.4).certify(x, y, **SETTINGS, log=log)


def test_keras_goes_on_as_before(examples, tmp_path):
    x, _ = examples
    y = (x[:, :LABELS] > 0).astype("float32")
    base = linear("sigmoid")[0]
    model = several(base, seed=0, threshold=0.4)
    weights = len(model.weights)
    model.compile(
        keras.optimizers.Adam(0.1),
        "binary_crossentropy",
        metrics=["binary_accuracy"],
    )
    model.fit(x, y, epochs=40, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.7
    assert len(model.weights) == weights == len(base.weights)
    assert model(x).shape == (40, LABELS)
    result = model.certify(x, y, **SETTINGS)
    assert result.certified_accuracy(0) > 0.5
    shares = model.predict(x, verbose=0)
    share_of_one = np.where(
        result.candidate == 1, result.votes, 500 - result.votes
    )
    np.testing.assert_allclose(shares, share_of_one / 500, atol=0.25)
    labels = model.classify(x, n=500, seed=1)
    assert set(np.unique(labels)) == {-1, 0, 1}
    decided = (labels >= 0) & (result.prediction >= 0)
    np.testing.assert_array_equal(labels[decided], result.prediction[decided])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, ks.SmoothedMultiLabel)
    assert_equal(loaded.certify(x, y, **SETTINGS), result)


def test_settings_that_change_are_seen(examples):
    x, _ = examples
    model = several(linear()[0])
    before = model.predict(x, verbose=0), model.certify(x, **SETTINGS)
    model.threshold = 0.9
    after = model.certify(x, **SETTINGS)
    ones = [np.sum(result.candidate == 1) for result in (before[1], after)]
    assert ones[1] < ones[0]


def test_labels_are_invariant_under_a_group():
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(4, 2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="sigmoid"),
        ]
    )
    model = several(base, group=ks.groups.D4("channels_last"), num_draws=4_000)
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 1)).astype("float32")
    result = model.certify(x, **{**SETTINGS, "n": 4_000})
    turned = model.certify(
        np.rot90(x, axes=(1, 2)).copy(), **{**SETTINGS, "n": 4_000, "seed": 1}
    )
    assert np.abs(result.votes - turned.votes).max() < 200
    np.testing.assert_array_equal(result.candidate, turned.candidate)
    assert "l2 up to D4" in result.statement
    assert "l2 up to D4" in result.distance


def test_a_nan_costs_one_label_only(examples):
    class LogOfOneLabel(keras.layers.Layer):
        def call(self, x):
            return ops.concatenate([ops.log(x[:, :1] + 0.5), x[:, 1:]], axis=1)

    base = keras.Sequential([keras.Input((3,)), LogOfOneLabel()])
    model = several(base, from_logits=True)
    x = np.array([[3.0, 1, -1], [0.0, 1, 1]], "float32")
    with pytest.warns(UserWarning, match=r"components of example\(s\) \[1\]"):
        result = model.certify(x, **SETTINGS)
    np.testing.assert_array_equal(result.prediction, [[1, 1, 0], [-1, 1, 1]])


def test_models_of_another_kind_are_sent_to_their_class():
    softmax = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    )
    with pytest.raises(ValueError, match="`ks.SmoothedModel` is for one class"):
        several(softmax)
    separate = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Softmax()]
    )
    with pytest.raises(ValueError, match="`ks.SmoothedModel` is for one class"):
        several(separate)
    with pytest.raises(ValueError, match="`ks.SmoothedSegmentation` is for"):
        several(network())
    tanh = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh")])
    with pytest.raises(ValueError, match="Expected `from_logits`"):
        several(tanh)


def test_models_without_a_graph_of_layers(examples):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(LABELS)

        def call(self, x):
            return self.dense(x)

    x, y = examples
    base = Subclassed()
    with pytest.raises(ValueError, match="one that is not built"):
        several(base, from_logits=True).plan(100)
    # It is built on the first examples.
    result = several(base, from_logits=True).certify(x, y, **SETTINGS)
    assert result.votes.shape == (40, LABELS)
    with pytest.raises(ValueError, match="Expected `from_logits`"):
        several(base).certify(x, y, **SETTINGS)
    model = several(base, from_logits=True)
    assert model.certify(x, y, **SETTINGS).votes.shape == (40, LABELS)
    assert model.predict(x, verbose=0).shape == (40, LABELS)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(n=8), "n >= 9 at alpha=0.01, shared out over 5 labels"),
        (
            dict(y=np.full((40, LABELS), 2)),
            "integers from 0 to 1, for 2 classes",
        ),
        (dict(y=np.zeros((40, 4), int)), r"shape \('examples', 5\)"),
        (dict(y=np.zeros(40, int)), "with 1 axes"),
    ],
)
def test_bad_requests(examples, arguments, message):
    with pytest.raises(ValueError, match=message):
        several(linear()[0]).certify(examples[0], **{**SETTINGS, **arguments})


def test_one_label_is_a_binary_classifier(examples):
    x, _ = examples
    one = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1)])
    result = several(one).certify(x, **SETTINGS)
    other = smoothed(one).certify(x, **SETTINGS)
    np.testing.assert_array_equal(result.prediction[:, 0], other.prediction)
    assert np.abs(result.radius[:, 0] - other.radius).max() < 0.02


def test_a_classifier_is_no_model_of_labels():
    # Of logits nothing tells: with them it is what it is asked to be.
    model = several(linear_model([1.0, 2.0]))
    assert model.classify(np.zeros((1, 2), "f4"), n=100).shape == (1, 2)
