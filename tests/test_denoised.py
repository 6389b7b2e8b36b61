"""A denoiser in front of a classifier that never saw noise."""

import keras
import numpy as np
import pytest
from conftest import Masked
from conftest import logits_loss

import keras_smoothing as ks

SHAPE = (4, 4, 1)


def classifier(activation=None):
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, activation=activation),
        ]
    )


def images(examples=12):
    rng = np.random.default_rng(0)
    return rng.uniform(size=(examples, *SHAPE)).astype("float32")


def smoothed_pair(objective, loss=None, base=None, **arguments):
    keras.utils.set_random_seed(1)
    if base is None:
        denoiser = ks.applications.dncnn(SHAPE, depth=3, filters=4)
        base = ks.training.Denoised(classifier(), denoiser)
    model = ks.SmoothedModel(base, ks.noise.Gaussian(0.3), seed=2, **arguments)
    model.compile(
        keras.optimizers.Adam(0.01), loss, objective=objective, run_eagerly=True
    )
    return model


def test_a_denoiser_starts_from_the_identity_of_its_last_kernel():
    denoiser = ks.applications.dncnn((28, 28, 1))
    assert denoiser.output_shape == (None, 28, 28, 1)
    assert abs(denoiser.count_params() / 57_000 - 1) < 0.02
    last = denoiser.layers[-2]
    last.set_weights([0 * w for w in last.get_weights()])
    x = np.random.default_rng(0).uniform(size=(2, 28, 28, 1)).astype("float32")
    np.testing.assert_array_equal(denoiser(x), x)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    assert ks.applications.dncnn(SHAPE)(images()).dtype == "float32"
    with pytest.raises(ValueError, match="Expected at least 2.*Received"):
        ks.applications.dncnn(SHAPE, depth=1)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 2.0), (3.0, 0.5)])
def test_losses_equal_their_formulas(weights):
    x = images()
    model = smoothed_pair(ks.training.Denoising(*weights), logits_loss())
    pair = model.base_model
    before = np.array(model.seed_generator.state)
    noisy = model.draw_noise(x)(x)
    model.seed_generator.state.assign(before)
    # With batch statistics, as in training.
    denoised = np.asarray(pair.denoiser(noisy, training=True))
    p = keras.ops.softmax(pair.classifier(denoised, training=False)).numpy()
    target = np.argmax(pair.classifier(x, training=False), axis=-1)
    weight = np.linspace(0, 2, len(x)).astype("float32")
    expected = {}
    if weights[0]:
        error = np.mean((denoised - x) ** 2, axis=(1, 2, 3))
        expected["reconstruction_loss"] = weights[0] * np.mean(weight * error)
    if weights[1]:
        cross_entropy = -np.log(p[np.arange(len(x)), target])
        expected["stability_loss"] = weights[1] * np.mean(
            weight * cross_entropy
        )
    assert model.objective.terms == tuple(expected)
    expected["loss"] = sum(expected.values())
    y = np.zeros(len(x))
    logs = model.train_on_batch(x, y, weight, return_dict=True)
    assert set(logs) == set(expected)
    for term, value in expected.items():
        np.testing.assert_allclose(logs[term], value, rtol=1e-4, err_msg=term)


def test_a_masked_class_changes_nothing():
    losses, weights = [], []
    for layers in ([], [Masked()]):
        denoiser = ks.applications.dncnn(SHAPE, depth=3, filters=4)
        denoiser.set_weights([0.1 + 0 * w for w in denoiser.get_weights()])
        kernel = np.random.default_rng(0).normal(size=(16, 3))
        flat = [keras.layers.Flatten(), keras.layers.Dense(3)]
        whole = keras.Sequential([keras.Input(SHAPE), *flat, *layers])
        flat[1].set_weights([kernel, np.zeros(3)])
        model = smoothed_pair(
            ks.training.Denoising(),
            logits_loss(),
            ks.training.Denoised(whole, denoiser),
        )
        logs = model.train_on_batch(images(), np.zeros(12), return_dict=True)
        losses.append(list(logs.values()))
        weights.append(denoiser.get_weights()[0])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    np.testing.assert_allclose(*weights, rtol=1e-5)


def test_the_denoiser_learns_and_the_classifier_stays(tmp_path):
    x = images(32)
    model = smoothed_pair(ks.training.Denoising(stability=0.0))
    pair = model.base_model
    frozen = pair.classifier.get_weights()
    moving = pair.denoiser.get_weights()
    loss = model.fit(x, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert loss[-1] < 0.7 * loss[0]
    for old, new in zip(frozen, pair.classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert any(
        np.any(old != new)
        for old, new in zip(moving, pair.denoiser.get_weights(), strict=True)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.base_model.classifier.trainable_weights
    assert loaded.objective.get_config() == model.objective.get_config()
    settings = dict(n0=20, n=200, alpha=0.1, seed=0, verbose=0)
    np.testing.assert_array_equal(
        loaded.certify(x[:3], **settings).counts,
        model.certify(x[:3], **settings).counts,
    )
    loaded.fit(x, verbose=0)


def test_the_classifier_stays_when_all_is_thawed():
    model = smoothed_pair(ks.training.Denoising(stability=0.0))
    pair = model.base_model
    for whole in (model, pair):
        whole.trainable = False
        assert not model.trainable_weights
        whole.trainable = True
        assert not pair.classifier.trainable_weights
        assert len(model.trainable_weights) == len(
            pair.denoiser.trainable_weights
        )


def test_a_pair_trains_with_other_objectives():
    x = images()
    objective = ks.training.SmoothAdv(0.3, num_steps=1)
    model = smoothed_pair(objective, logits_loss())
    frozen = model.base_model.classifier.get_weights()
    assert np.isfinite(model.train_on_batch(x, np.arange(12) % 3))
    for old, new in zip(
        frozen, model.base_model.classifier.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_regularisation_of_the_denoiser_counts():
    x, losses = images(), []
    for penalty in (None, "l2"):
        keras.utils.set_random_seed(0)
        denoiser = keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Conv2D(1, 3, padding="same"),
            ]
        )
        denoiser.layers[0].kernel_regularizer = keras.regularizers.get(penalty)
        denoiser.layers[0].kernel.regularizer = keras.regularizers.get(penalty)
        model = smoothed_pair(
            ks.training.Denoising(stability=0.0),
            base=ks.training.Denoised(classifier(), denoiser),
        )
        added = 0.01 * np.sum(denoiser.layers[0].get_weights()[0] ** 2)
        losses.append(model.train_on_batch(x, return_dict=True)["loss"])
    np.testing.assert_allclose(losses[1], losses[0] + added, rtol=1e-5)


def test_bad_pairs_are_refused():
    x, y = images(), np.arange(12) % 3
    denoiser = ks.applications.dncnn(SHAPE, depth=2, filters=2)
    pair = ks.training.Denoised(classifier("softmax"), denoiser)
    both = ks.training.Denoising()
    for model, message in (
        (smoothed_pair(both, logits_loss(), classifier()), "Denoised"),
        (smoothed_pair(both, logits_loss(), pair), "returns logits"),
        (smoothed_pair(both), "Expected one loss"),
        (
            smoothed_pair(both, logits_loss(), group=ks.groups.D4()),
            "without a group",
        ),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Received"):
            model.train_on_batch(x, y)
    with pytest.raises(ValueError, match="above 0.*Received"):
        ks.training.Denoising(0.0, 0.0)
    with pytest.raises(ValueError, match="`classifier`.*Received"):
        ks.training.Denoised("classifier", denoiser)
    with pytest.raises(ValueError, match="keeps the shape.*Received"):
        ks.training.Denoised(classifier(), classifier())
