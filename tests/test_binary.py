"""Base models of one output: the probability or the logit of class 1."""

import keras
import numpy as np
import pytest
from conftest import smoothed

import keras_smoothing as ks
from keras_smoothing.certificates.smoothed_classifier import SmoothedClassifier

SETTINGS = dict(n=1_000, alpha=0.01, seed=0, verbose=0)


def binary(*last, features=4):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, activation="tanh")
    return keras.Sequential([keras.Input((features,)), hidden, *last])


def logits():
    return binary(keras.layers.Dense(1))


def with_weights_of(model, other):
    model.set_weights(other.get_weights())
    return model


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(40, 4)).astype("float32")


def test_certificates_are_those_of_two_classes(x):
    one = logits()
    two = binary(keras.layers.Dense(2, activation="softmax"))
    kernel, bias = one.layers[-1].get_weights()
    two.layers[0].set_weights(one.layers[0].get_weights())
    two.layers[1].set_weights(
        [np.hstack([0 * kernel, kernel]), np.hstack([0 * bias, bias])]
    )
    result, other = (
        smoothed(model).certify(x, **SETTINGS) for model in (one, two)
    )
    np.testing.assert_array_equal(result.counts, other.counts)
    np.testing.assert_array_equal(result.radius, other.radius)
    assert {0, 1} <= set(result.prediction)
    labels = smoothed(one).classify(x, n=1_000, seed=1)
    np.testing.assert_array_equal(
        labels, smoothed(two).classify(x, n=1_000, seed=1)
    )


@pytest.mark.parametrize(
    "last",
    [
        [keras.layers.Dense(1, activation="sigmoid")],
        [keras.layers.Dense(1), keras.layers.Activation("sigmoid")],
    ],
)
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_a_probability_is_as_good_as_its_logit(x, last, threshold):
    one = logits()
    other = with_weights_of(binary(*map(_again, last)), one)
    result, same = (
        smoothed(model, threshold=threshold).certify(x, **SETTINGS)
        for model in (one, other)
    )
    # Where rounding decides, the two need not agree.
    assert np.abs(result.counts - same.counts).max() <= 1


def _again(layer):
    return type(layer).from_config(layer.get_config())


@pytest.mark.parametrize("threshold", [0.5, 0.9])
@pytest.mark.parametrize("from_logits", [True, False])
def test_no_radius_exceeds_the_distance_of_a_linear_score(
    threshold, from_logits
):
    weights, bias, sigma = np.array([3.0, -4.0]), 0.5, 0.25
    activation = None if from_logits else "sigmoid"
    base = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, activation=activation)]
    )
    base.set_weights([weights[:, np.newaxis], np.array([bias])])
    x = np.random.default_rng(1).normal(size=(200, 2)).astype("float32") / 4
    score = (
        x.astype("f8") @ weights + bias - np.log(threshold / (1 - threshold))
    )
    distance = np.abs(score) / 5
    model = smoothed(base, sigma=sigma, threshold=threshold)
    result = model.certify(x, **{**SETTINGS, "n": 20_000, "alpha": 1e-4})
    certified = result.radius > 0
    assert certified.sum() > 150
    np.testing.assert_array_equal(
        result.prediction[certified], (score > 0)[certified]
    )
    assert (result.radius <= distance).all()
    near = certified & (distance < 2 * sigma)
    assert (result.radius[near] > 0.8 * distance[near] - 0.02).all()


@pytest.mark.slow
def test_keras_goes_on_as_before(x, tmp_path):
    y = (x.sum(axis=1, keepdims=True) > 0).astype("float32")
    model = smoothed(logits(), threshold=0.3, seed=0)
    weights = len(model.weights)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(0.05), loss, metrics=["binary_accuracy"]
    )
    model.fit(x, y, epochs=60, verbose=0)
    result = model.certify(x, y, **SETTINGS)
    assert result.correct.mean() > 0.8
    assert len(model.weights) == weights == len(model.base_model.weights)
    assert model.evaluate(x, y, verbose=0)[1] > 0.8
    assert model(x).shape == (40, 1)
    shares = model.predict(x, verbose=0)
    assert shares.shape == (40, 1)
    expected = result.counts[:, 1] / 1_000
    np.testing.assert_allclose(shares[:, 0], expected, atol=0.3)
    model.save(tmp_path / "binary.keras")
    loaded = keras.saving.load_model(tmp_path / "binary.keras")
    assert loaded.threshold == 0.3
    again = loaded.certify(x, y, **SETTINGS)
    np.testing.assert_array_equal(again.counts, result.counts)


def test_a_log_knows_the_threshold(x, tmp_path):
    base = logits()
    log = tmp_path / "run.tsv"
    smoothed(base).certify(x[:4], **SETTINGS, log=log)
    with pytest.raises(ValueError, match="is of another run"):
        smoothed(base, threshold=0.4).certify(x[:4], **SETTINGS, log=log)


def test_settings_that_change_are_seen(x):
    model = smoothed(logits())
    before = model.certify(x, **SETTINGS)
    model.threshold = 0.9
    after = model.certify(x, **SETTINGS)
    assert (after.counts[:, 1] <= before.counts[:, 1]).all()
    assert (after.counts[:, 1] < before.counts[:, 1]).any()


def test_soft_votes_have_the_mean_probability(x):
    base = binary(keras.layers.Dense(1, activation="sigmoid"))
    model = smoothed(base, voting="soft", num_draws=2_000, seed=0)
    result = model.certify(x, **{**SETTINGS, "n": 20_000})
    shares = model.predict(x, verbose=0)[:, 0]
    np.testing.assert_allclose(result.counts[:, 1] / 20_000, shares, atol=0.05)
    with pytest.raises(ValueError, match="threshold=0.5 for soft voting"):
        smoothed(base, voting="soft", threshold=0.4)


def test_a_model_without_a_graph_of_layers(x):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    base = Subclassed()
    base(x[:1])
    with pytest.raises(ValueError, match="Expected `from_logits`"):
        smoothed(base).certify(x, **SETTINGS)
    model = smoothed(base, from_logits=True)
    result = model.certify(x, **SETTINGS)
    assert result.counts.shape == (40, 2)
    assert model.predict(x, verbose=0).shape == (40, 1)


class Unbuilt(keras.Model):
    """One output, whatever the input; nothing is known before a call."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("method", ["certify", "classify"])
def test_a_model_that_was_never_called(x, method):
    settings = dict(n=1_000, alpha=0.01, seed=0)
    # What it is comes to light with the first examples.
    keras.utils.set_random_seed(0)
    model = smoothed(Unbuilt(), from_logits=True)
    answer = getattr(model, method)(x, **settings)
    called = Unbuilt()
    called(x[:1])
    called.set_weights(model.base_model.get_weights())
    expected = getattr(smoothed(called, from_logits=True), method)(
        x, **settings
    )
    if method == "certify":
        assert answer.counts.shape == (40, 2)
        answer, expected = answer.counts, expected.counts
    np.testing.assert_array_equal(answer, expected)


def test_a_refusal_does_not_outlive_its_reason(x, tmp_path):
    model = smoothed(Unbuilt())
    for _ in range(2):
        with pytest.raises(ValueError, match="Expected `from_logits`"):
            model.certify(x, **SETTINGS)
    model.from_logits = True
    assert model.certify(x, **SETTINGS).counts.shape == (40, 2)
    other = smoothed(Unbuilt())
    with pytest.raises(ValueError, match="a base model that is built"):
        other.export(tmp_path / "exported")
    other.base_model(x[:1])
    with pytest.raises(ValueError, match="Expected `from_logits`"):
        other.certify(x, **SETTINGS)
    with pytest.raises(ValueError, match="NaN or infinity in example 0"):
        smoothed(Unbuilt(), from_logits=True).certify(np.nan * x, **SETTINGS)


def test_votes_of_an_equilibrium_network(x):
    keras.utils.set_random_seed(0)
    cell = ks.equilibrium.cells.ContractiveDense(8, contraction=0.5)
    base = keras.Sequential(
        [
            keras.Input((4,)),
            ks.layers.DeepEquilibrium(cell),
            keras.layers.Dense(1),
        ]
    )
    model = smoothed(base, threshold=0.4)
    form = ks.serialized.Exact()
    result = model.certify(x[:8], **SETTINGS, serialized=form)
    solved = model.certify(x[:8], **SETTINGS)
    error = np.abs(result.counts - solved.counts)
    assert (error.max(axis=1) <= result.findings["unsettled"] + 2).all()


def test_an_exported_one_votes_alike(x, tmp_path):
    model = smoothed(logits(), threshold=0.3)
    model.export(tmp_path / "exported", verbose=False)
    exported = SmoothedClassifier(tmp_path / "exported")
    calls = dict(n=1_000, alpha=0.01, seed=0)
    np.testing.assert_array_equal(
        exported.certify(x, **calls).counts,
        model.certify(x, **calls, verbose=0).counts,
    )
    assert exported.predict(x).shape == (40, 2)


def test_what_has_no_binary_form(x):
    with pytest.raises(ValueError, match="of one output"):
        smoothed(binary(keras.layers.Dense(2)), from_logits=True)
    with pytest.raises(ValueError, match="of one output"):
        smoothed(binary(keras.layers.Dense(2)), threshold=0.2)
    with pytest.raises(ValueError, match="Received: threshold=1"):
        smoothed(logits(), threshold=1)
    with pytest.raises(ValueError, match="no Dense, Activation or conv"):
        smoothed(binary(keras.layers.Dense(1, activation="tanh")))
    model = smoothed(logits())
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("sgd", loss, objective=ks.training.Consistency())
    with pytest.raises(ValueError, match="several outputs, one for each class"):
        model.fit(x, np.zeros((40, 1)), verbose=0)


@pytest.mark.parametrize(
    "last, advice",
    [
        (lambda z: keras.ops.argmax(z, axis=-1), "leave out the argmax"),
        (
            lambda z: keras.ops.argmax(z, axis=-1, keepdims=True),
            "leave out the argmax",
        ),
        (lambda z: keras.ops.sigmoid(z[:, 0]), r"keras.layers.Reshape\(\(1,"),
    ],
)
def test_outputs_that_are_no_scores(x, last, advice):
    inputs = keras.Input(x.shape[1:])
    outputs = last(keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    base = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match=advice):
        ks.SmoothedModel(base, ks.noise.Gaussian(0.5))
    # Of which attacks would say nothing, and their accuracy anything.
    y = np.zeros(len(x), int)
    with pytest.raises(ValueError, match="a score of each class|two classes"):
        ks.evaluation.robust_accuracy(base, x, y, None, [0.0])
    with pytest.raises(ValueError, match="a score of each class"):
        ks.attacks.l2_pgd(
            base, np.clip(x, 0, 1), y, 0.1, num_draws=1, from_logits=True
        )


def test_accuracy_without_an_attack_is_that_of_the_votes(x):
    model = smoothed(logits())
    y = (model.predict(x, verbose=0)[:, 0] > 0.5).astype(int)
    assert 0 < y.mean() < 1
    found = ks.evaluation.robust_accuracy(model, x, y, None, [0.0])
    # A tie may fall either way.
    assert found.accuracy[0, 0] > 0.9
    with pytest.raises(ValueError, match="outputs of two classes or more"):
        ks.evaluation.robust_accuracy(model.base_model, x, y, None, [0.0])
