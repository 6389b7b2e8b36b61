import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import logits_loss
from conftest import small_convnet
from conftest import smoothed
from scipy import stats

import keras_smoothing as ks


def test_fit_draws_fresh_noise_every_step():
    class Spy(keras.layers.Layer):
        """Keeps the first input of the last step."""

        def build(self, input_shape):
            self.last = self.add_weight(shape=input_shape[1:], trainable=False)

        def call(self, inputs):
            self.last.assign(inputs[0])
            return inputs

    spy, seen = Spy(), []
    base = keras.Sequential([keras.Input((50,)), spy, keras.layers.Dense(2)])
    model = smoothed(base, sigma=0.5)
    model.compile("sgd", logits_loss())
    model.fit(
        np.ones((18, 50), "float32"),
        np.zeros(18),
        batch_size=3,
        callbacks=keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(
                np.array(spy.last)
            )
        ),
        verbose=0,
    )
    noise = np.array(seen) - 1
    assert len(np.unique(noise, axis=0)) == 6
    assert stats.kstest(noise.ravel(), stats.norm(scale=0.5).cdf).pvalue > 1e-3


def test_fit_learns_and_evaluate_agrees_with_history(digits_model, digits):
    x, y = digits
    evaluation = digits_model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(evaluation) == {"loss", "accuracy"}
    assert evaluation["accuracy"] > 0.7
    history = digits_model.fit(x, y, verbose=0, validation_data=(x, y)).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_predict_gives_the_shares_of_the_votes():
    margins = np.array([-1.0, 0.0, 0.3, 2.0])
    model = smoothed(linear_model([1.0]), sigma=0.5, num_draws=4_000)
    x = margins[:, np.newaxis].astype("float32")
    shares = model.predict(x, batch_size=3, verbose=0)
    expected = stats.norm.cdf(margins / 0.5)
    np.testing.assert_allclose(shares[:, 0], expected, atol=0.04)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_probabilities_and_logits_give_the_same_certificates(digits, policy):
    x, y = digits
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(1)
    base = small_convnet()
    probabilities = keras.Sequential(
        [*base.layers, keras.layers.Softmax(dtype="float32")]
    )
    results = [
        smoothed(b).certify(x[:8], y[:8], n=2_000, seed=0, verbose=0)
        for b in (base, probabilities)
    ]
    # The same up to ties that the softmax may make or break.
    moved = np.abs(results[0].counts - results[1].counts).sum(axis=1)
    assert moved.max() <= (2 if policy == "float32" else 40)


def test_the_base_model_runs_in_inference_mode():
    base = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.9),
            keras.layers.Dense(2),
        ]
    )
    before = [np.array(w) for w in base.get_weights()]
    model = smoothed(base)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    one = model.certify(x, n=500, seed=0, verbose=0)
    model.predict(x, verbose=0)
    two = model.certify(x, n=500, seed=0, verbose=0)
    np.testing.assert_array_equal(one.counts, two.counts)
    for old, new in zip(before, base.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_certificates_follow_the_weights():
    base = linear_model([1.0])
    model = smoothed(base)
    x = np.array([[0.3]], "float32")
    assert model.certify(x, n=500, seed=0, verbose=0).prediction == [0]
    base.set_weights([-w for w in base.get_weights()])
    assert model.certify(x, n=500, seed=0, verbose=0).prediction == [1]
    # And the noise: all votes agree, so the radius is proportional to sigma.
    radius = model.certify(10 * x, n=500, seed=0, verbose=0).radius
    model.noise = ks.noise.Gaussian(0.5)
    other = model.certify(10 * x, n=500, seed=0, verbose=0).radius
    np.testing.assert_allclose(other, 2 * radius)


def test_certificates_follow_changes_of_noise_and_structure():
    # Between the calls nothing is replaced, so a stale graph would be used.
    base = linear_model([1.0])
    model = smoothed(base, sigma=0.05)
    x = np.array([[0.3]], "float32")

    def certify(model):
        return model.certify(x, n=2_000, seed=0, verbose=0)

    certify(model)
    model.noise.sigma = 1.0
    fresh = smoothed(base, sigma=1.0)
    np.testing.assert_array_equal(certify(model).counts, certify(fresh).counts)
    assert certify(model).radius < 0.3
    assert model._sampler() is model._sampler()
    base.layers[0].activation = lambda outputs: -outputs
    assert certify(model).prediction == [1]


@pytest.mark.slow
def test_save_and_load_in_a_new_process(digits_file, digits_model, digits):
    x, y = digits
    here = digits_model.certify(x[:4], n=500, seed=3, verbose=0)
    script = f"""
        import keras, numpy as np
        import keras_smoothing as ks
        model = keras.saving.load_model({str(digits_file)!r})
        x, y = ks.datasets.load("digits", "test[:4]")
        result = model.certify(x, n=500, seed=3, verbose=0)
        assert isinstance(model.optimizer, keras.optimizers.Adam)
        print(model.noise, result.counts.tolist())
    """
    there = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert there.strip() == f"{digits_model.noise} {here.counts.tolist()}"


def test_an_hdf5_file_that_could_not_be_loaded_is_not_written(tmp_path):
    base = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(0.5))
    for ending in ("h5", "hdf5"):
        with pytest.raises(ValueError, match="ends in .keras"):
            model.save(tmp_path / f"model.{ending}")
    assert not list(tmp_path.iterdir())


class OwnBuild(keras.Model):
    """Its weights are made by `build` alone."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 3))

    def call(self, x):
        return x @ self.kernel


class BuiltByHand(keras.Model):
    """Says that it is built, and so Keras never learns of which shape."""

    def __init__(self):
        super().__init__()
        self.kernel = self.add_weight(shape=(4, 3))
        self.built = True

    def call(self, x):
        return x @ self.kernel


@pytest.mark.parametrize("kind", [OwnBuild, BuiltByHand])
@pytest.mark.parametrize("first", ["certify", "classify", "predict"])
def test_subclassed_models_may_build_themselves(kind, first):
    x = np.random.default_rng(0).random((5, 4)).astype("float32")
    y = np.array([0, 1, 2, 0, 1])
    model = ks.SmoothedModel(kind(), ks.noise.Gaussian(0.5))
    settings = dict(n=100, seed=0)
    ways = {
        "certify": lambda: model.certify(x, y, **settings, verbose=0).label,
        "classify": lambda: model.classify(x, **settings),
        "predict": lambda: model.predict(x, verbose=0),
    }
    assert len(ways[first]()) == 5
    for way in ways.values():
        assert len(way()) == 5
    with pytest.raises(ValueError, match="integers from 0 to 2, for 3 classes"):
        model.certify(x, y + 1, **settings, verbose=0)


def test_plan_knows_the_shape_of_a_model_that_was_called():
    noise = ks.noise.Gaussian(0.5)
    called, by_hand = OwnBuild(), BuiltByHand()
    for model in (called, by_hand):
        with pytest.raises(ValueError, match="Call the model on a batch, or"):
            ks.plan(100, 0.1, noise, model=model)
        model(np.zeros((1, 4), "float32"))
    inputs = keras.Input((4,))
    for model in (called, keras.Model(inputs, by_hand(inputs))):
        assert ks.plan(100, 0.1, noise, model=model).seconds > 0


def keras_2(module):
    """A class that says of itself to be of another package."""
    return type("Model", (), {"__module__": module})()


@pytest.mark.parametrize(
    "model, advice",
    [
        (keras_2("tf_keras.src.engine.training"), "of Keras 2. Save it as .h5"),
        (keras_2("tensorflow.python.keras.engine.training"), "of Keras 2"),
        (keras_2("sklearn.svm"), "`ks.from_function` makes a base model"),
    ],
)
def test_models_of_other_packages_are_told_what_to_do(model, advice):
    noise = ks.noise.Gaussian(0.5)
    for kind in (ks.SmoothedModel, ks.SmoothedSegmentation):
        with pytest.raises(ValueError, match=advice):
            kind(model, noise)
    if "Keras 2" in advice:
        for call in (
            lambda: ks.add_input_noise(model, noise),
            lambda: ks.randomize(model, 0.1),
            lambda: ks.RandomSelfEnsemble(model, from_logits=True),
            lambda: ks.attacks.l2_pgd(
                model, np.zeros((1, 2)), [0], 0.1, num_draws=1, from_logits=True
            ),
        ):
            with pytest.raises(ValueError, match=advice):
                call()


def test_results_depend_on_neither_batch_size_nor_order(digits_model, digits):
    x, y = digits
    settings = dict(n=1_000, seed=0, verbose=0)
    whole = digits_model.certify(x, y, **settings)
    backwards = digits_model.certify(x[::-1], y[::-1], **settings)
    small = digits_model.certify(x[:9], y[:9], batch_size=7, **settings)
    # The rounding of a convolution depends on the batch: single votes move.
    for counts, other in (
        (whole.counts, backwards.counts[::-1]),
        (whole.counts[:9], small.counts),
    ):
        assert np.abs(counts - other).max() <= 1


def test_the_seed_decides(digits_model, digits):
    x, _ = digits
    seeds = [
        digits_model.certify(x[:8], n=500, seed=seed, verbose=0)
        for seed in (0, 0, 1, None, None)
    ]
    counts = [result.counts.tobytes() for result in seeds]
    assert counts[0] == counts[1]
    assert len(set(counts)) == 4
    assert seeds[3].seed != seeds[4].seed


def test_classify_agrees_with_certify(digits_model, digits):
    x, y = digits
    labels = digits_model.classify(x, seed=0)
    assert labels.dtype == np.int64
    assert labels.shape == (len(x),)
    result = digits_model.certify(x, y, n=1_000, seed=0, verbose=0)
    both = (labels != ks.ABSTAIN) & (result.prediction != ks.ABSTAIN)
    assert both.mean() > 0.7
    np.testing.assert_array_equal(labels[both], result.prediction[both])


def test_classify_abstains_on_a_tie():
    model = smoothed(linear_model([1.0]))
    assert model.classify(np.zeros((1, 1), "float32"), seed=0) == [ks.ABSTAIN]


def test_the_progress_bar_names_what_the_issue_of_a_run_is(
    digits_model, digits, capsys
):
    x, y = digits
    digits_model.certify(x[:40], y[:40], n=500, seed=0)
    shown = capsys.readouterr().out
    for text in ("40/40", "/example", "certified_accuracy:", "acr:"):
        assert text in shown
    digits_model.certify(x[:4], n=500, seed=0, verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(base_model="model"), "Expected a Keras model"),
        (dict(base_model=smoothed(linear_model([1.0]))), "not smoothed yet"),
        (
            dict(
                base_model=keras.Sequential(
                    [keras.Input((4,)), keras.layers.Reshape((2, 2))]
                )
            ),
            "at least 2 classes",
        ),
        (dict(noise=0.25), "Expected a keras_smoothing.noise.Noise"),
        (dict(num_draws=0), "Expected an integer >= 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    good = dict(base_model=linear_model([1.0]), noise=ks.noise.Gaussian(1.0))
    with pytest.raises(ValueError, match=message):
        ks.SmoothedModel(**{**good, **arguments})
