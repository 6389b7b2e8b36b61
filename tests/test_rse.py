"""Random self-ensembles: blocks, ensembles, their certificates."""

import keras
import numpy as np
import pytest
from conftest import Masked
from conftest import linear_model
from conftest import small_convnet
from scipy import stats

import keras_smoothing as ks
from keras_smoothing import backend


def noisy_model(activation=None):
    keras.utils.set_random_seed(0)
    model = small_convnet(activation=activation)
    return ks.randomize(model, 0.3, 0.1, verbose=False)


@pytest.fixture
def x():
    return np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")


def test_a_block_is_noise_convolution_normalization_activation(x):
    block = ks.layers.RSEBlock(3, 3, stddev=0.0, strides=2, activation="tanh")
    outputs = block(x)
    convolution, normalization = block.convolution, block.normalization
    expected = np.tanh(normalization(convolution(x)))
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    assert block.compute_output_shape(x.shape) == outputs.shape
    noisy = ks.layers.RSEBlock(3, 3, stddev=0.3)
    for training in (False, True):
        assert not np.array_equal(
            noisy(x, training=training), noisy(x, training=training)
        )


def test_a_block_refuses_a_negative_deviation():
    with pytest.raises(ValueError, match="`stddev`. Expected a finite"):
        ks.layers.RSEBlock(3, 3, stddev=-0.1)


def test_a_masked_class_has_probability_0_and_finite_gradients(x):
    model = keras.Sequential([noisy_model(), Masked()])
    ensemble = ks.RandomSelfEnsemble(model, 5, from_logits=True)
    outputs = ensemble.predict(x, verbose=0)
    assert (outputs[:, -1] == 0).all()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    gradient = backend.input_gradient(
        lambda x: keras.ops.sum(ensemble.log_probabilities(x), axis=-1),
        keras.ops.convert_to_tensor(x),
    )
    assert np.isfinite(gradient).all() and np.any(gradient)


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_output_is_the_mean_of_probabilities(x, from_logits):
    # Logits of one draw are a + e, b + e': the mean has a known limit.
    model = noisy_model(None if from_logits else "softmax")
    ensemble = ks.RandomSelfEnsemble(model, 400, from_logits=from_logits)
    passes = np.stack([model(x) for _ in range(400)])
    if from_logits:
        passes = np.array(keras.ops.softmax(passes))
    error = passes.std(axis=0) * np.sqrt(2 / 400)
    outputs = ensemble.predict(x, verbose=0)
    assert (np.abs(outputs - passes.mean(axis=0)) < 4.5 * error + 1e-6).all()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


def test_more_draws_make_it_steadier(x):
    model = noisy_model()

    def deviation(num_draws):
        ensemble = ks.RandomSelfEnsemble(model, num_draws, from_logits=True)
        outputs = [ensemble.predict(x, verbose=0) for _ in range(20)]
        return np.std(outputs, axis=0).mean()

    assert deviation(64) == pytest.approx(deviation(1) / 8, rel=0.35)


@pytest.mark.slow
def test_it_trains_evaluates_saves_and_loads(tmp_path):
    x, y = ks.datasets.load("digits", "train")
    ensemble = ks.RandomSelfEnsemble(noisy_model(), 20, from_logits=True)
    ensemble.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    ensemble.fit(x, y, epochs=8, verbose=0)
    accuracy = ensemble.evaluate(x, y, verbose=0)[1]
    assert accuracy > 0.8
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert loaded.num_draws == 20 and loaded.from_logits
    assert loaded.evaluate(x, y, verbose=0)[1] == pytest.approx(
        accuracy, abs=0.02
    )


def test_training_takes_one_pass(x):
    passes = []

    class Spy(keras.layers.Layer):
        def call(self, inputs):
            passes.append(1)
            return inputs

    model = keras.Sequential([keras.Input((4,)), Spy(), keras.layers.Dense(2)])
    ensemble = ks.RandomSelfEnsemble(model, 7, from_logits=True)
    passes.clear()
    ensemble(np.zeros((1, 4), "float32"), training=True)
    assert len(passes) == 1
    passes.clear()
    ensemble(np.zeros((1, 4), "float32"))
    assert len(passes) == 7


def test_certificates_fold_the_inner_noise_in():
    # Noise at the input and after an orthogonal layer: its margin is noisy, so
    # the class has probability Phi(margin / (sigma^2 + inner^2)^.5), of which
    # only sigma may count for the radius.
    sigma, inner, margin = 0.25, 0.25, 0.3
    linear = linear_model([1.0, 0.0])
    inputs = keras.Input((2,))
    y = ks.layers.GaussianNoiseAlways(sigma)(inputs)
    y = ks.layers.GaussianNoiseAlways(inner)(y)
    # Logits so large that probabilities are 0 or 1: soft votes are hard ones.
    logits = keras.layers.Rescaling(1e4)(linear(y))
    ensemble = ks.RandomSelfEnsemble(
        keras.Model(inputs, logits), from_logits=True
    )
    x = np.array([[margin, 0.0]], "float32")
    result = ensemble.certify(x, [0], n=100_000, seed=0, verbose=0)
    p = stats.norm.cdf(margin / np.hypot(sigma, inner))
    assert result.p_lower[0] == pytest.approx(p, abs=0.01)
    assert result.p_lower[0] < p
    expected = sigma * stats.norm.ppf(p)
    assert result.radius[0] == pytest.approx(expected, rel=0.03)
    # What is claimed is true: so far away the class has its share of draws.
    assert result.radius[0] < margin


def test_certify_is_refused_without_noise_at_the_input(x):
    inner_only = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3),
            ks.layers.GaussianNoiseAlways(0.1),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    ensemble = ks.RandomSelfEnsemble(inner_only, from_logits=True)
    with pytest.raises(ValueError, match="noise further inside gives none"):
        ensemble.certify(x, n=100)
    silent = ks.randomize(small_convnet(), 0.0, 0.1, verbose=False)
    with pytest.raises(ValueError, match="noise at the input"):
        ks.RandomSelfEnsemble(silent, from_logits=True).certify(x, n=100)


def test_the_smoothed_model_is_the_ensemble_in_the_limit(x):
    ensemble = ks.RandomSelfEnsemble(noisy_model(), 2_000, from_logits=True)
    smoothed = ensemble.smoothed_model()
    assert repr(smoothed.noise) == "Gaussian(sigma=0.3)"
    smoothed.num_draws = 2_000
    np.testing.assert_allclose(
        ensemble.predict(x, verbose=0),
        smoothed.predict(x, verbose=0),
        atol=0.01,
    )


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(model="no model"), "Expected a Keras model"),
        (dict(num_draws=0), "`num_draws`. Expected an integer >= 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.RandomSelfEnsemble(
            **{"model": noisy_model(), "from_logits": True, **arguments}
        )
