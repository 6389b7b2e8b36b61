"""Soft smoothing: the mean of probabilities instead of the share of votes."""

import keras
import numpy as np
import pytest
from conftest import columns_without_time
from conftest import small_convnet
from conftest import smoothed
from scipy import integrate
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.sampling import ballots


def logistic(slope):
    """Class 1 has probability logistic(slope * x)."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(2, activation="softmax")]
    )
    kernel = np.array([[0, slope]], "float32")
    model.layers[0].set_weights([kernel, np.zeros(2, "float32")])
    return model


def mean_probability(x, slope, sigma):
    """E[logistic(slope * (x + e))]."""
    density = stats.norm(x, sigma).pdf
    return integrate.quad(
        lambda u: density(u) / (1 + np.exp(-slope * u)),
        x - 10 * sigma,
        x + 10 * sigma,
    )[0]


@pytest.mark.parametrize("slope", [1.0, 5.0])
def test_shares_are_those_of_the_mean_probability(slope):
    model = smoothed(logistic(slope), sigma=0.5, voting="soft", num_draws=4_000)
    x = np.array([[-0.5], [0.2], [1.0]], "float32")
    expected = [mean_probability(float(v), slope, 0.5) for v in x[:, 0]]
    result = model.certify(x, n=200_000, seed=0, verbose=0)
    np.testing.assert_allclose(
        result.counts[:, 1] / 200_000, expected, atol=5e-3
    )
    shares = model.predict(x, verbose=0)
    np.testing.assert_allclose(shares[:, 1], expected, atol=0.02)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    # Not those of hard votes.
    hard = smoothed(logistic(slope), sigma=0.5).certify(
        x, n=200_000, seed=0, verbose=0
    )
    assert np.abs(hard.counts - result.counts).max() > 5_000


def test_radii_stay_below_the_distance_to_the_boundary():
    # By symmetry the mean probability is one half at 0, the true boundary. A
    # steep slope makes the soft classifier hard, whose radius is that.
    x = np.array([[0.2], [0.5], [0.9]], "float32")
    for slope, tightness in ((0.5, 0), (5.0, 0.5), (1e4, 0.95)):
        model = smoothed(logistic(slope), sigma=0.5, voting="soft")
        radius = model.certify(x, n=100_000, seed=0, verbose=0).radius
        assert (radius < x[:, 0]).all()
        assert (radius >= tightness * x[:, 0]).all()


@pytest.mark.slow
def test_mean_probabilities_inside_the_radius_keep_their_order():
    slope, sigma, alpha = 3.0, 0.5, 0.05
    model = smoothed(logistic(slope), sigma=sigma, voting="soft")
    x = np.full((1, 1), 0.4, "float32")
    true = stats.norm.ppf(mean_probability(0.4, slope, sigma)) * sigma
    radii = [
        model.certify(
            x,
            n=300,
            alpha=alpha,
            seed=seed,
            check_independence=False,
            verbose=0,
        ).radius[0]
        for seed in range(400)
    ]
    # The largest radius that the mean probability alone can prove.
    violations = np.sum(np.array(radii) > true)
    assert violations <= stats.binom.ppf(0.999, 400, alpha)
    assert violations >= stats.binom.ppf(0.001, 400, alpha / 4)


def test_draws_are_reproducible_and_do_not_depend_on_the_batch(tmp_path):
    model = smoothed(logistic(2.0), voting="soft")
    x = np.linspace(-1, 1, 40, dtype="float32")[:, np.newaxis]
    settings = dict(n=1_000, seed=0, verbose=0)
    one, two = tmp_path / "one.tsv", tmp_path / "two.tsv"
    model.certify(x, log=one, **settings)
    small = model.certify(x[::-1], batch_size=60, **settings)
    model.certify(x, log=two, batch_size=7, **settings)
    assert columns_without_time(one) == columns_without_time(two)
    whole = ks.read_log(one)
    np.testing.assert_array_equal(small.counts[::-1], whole.counts)
    hard = smoothed(model.base_model)
    with pytest.raises(ValueError, match="Expected voting='hard'. Received"):
        hard.certify(x, log=one, **settings)


def test_classify_answers_for_the_soft_classifier():
    # Hard votes go to class 1, the mean of probabilities to class 0: a draw
    # is mostly a weak 1 and sometimes a sure 0.
    base = keras.Sequential([keras.Input((1,)), Lopsided()])
    x = np.zeros((1, 1), "float32")
    assert smoothed(base).classify(x, seed=0) == [1]
    soft = smoothed(base, voting="soft")
    assert soft.classify(x, seed=0) == [0]
    assert soft.certify(x, n=5_000, seed=0, verbose=0).prediction == [0]
    assert np.argmax(soft.predict(x, verbose=0)) == 0


class Lopsided(keras.layers.Layer):
    def call(self, inputs):
        p = keras.ops.where(inputs > 0.1, 1.0, 0.45)
        return keras.ops.concatenate([p, 1 - p], axis=-1)


def test_it_survives_saving(tmp_path):
    model = smoothed(logistic(2.0), voting="soft")
    model.save(tmp_path / "soft.keras")
    loaded = keras.saving.load_model(tmp_path / "soft.keras")
    assert loaded.voting == "soft"
    x = np.array([[0.3]], "float32")
    np.testing.assert_array_equal(
        *(
            m.certify(x, n=500, seed=0, verbose=0).counts
            for m in (model, loaded)
        )
    )


def test_under_bfloat16_probabilities_are_still_probabilities():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = smoothed(small_convnet(activation="softmax"), voting="soft")
    x = np.random.default_rng(0).random((3, 8, 8, 1)).astype("float32")
    result = model.certify(x, n=500, seed=0, verbose=0)
    assert (result.counts.sum(axis=1) == 500).all()


def test_logits_are_refused(digits):
    x, _ = digits
    model = smoothed(small_convnet(), voting="soft")
    for method in (model.certify, model.classify):
        with pytest.raises(
            ValueError, match="(?s)returns probabilities.*Softmax"
        ):
            method(x[:2])
    with pytest.raises(ValueError, match="argument `voting`"):
        smoothed(small_convnet(), voting="mild")


def test_ballots_of_bad_outputs_are_empty():
    nan = float("nan")
    outputs = np.array(
        [[0.2, 0.8], [nan, 1.0], [2.0, 3.0], [-0.5, 1.5]], "float32"
    )
    tickets = np.full(4, 0.5, "float32")
    np.testing.assert_array_equal(
        ballots.hard(outputs), [[0, 1], [0, 0], [0, 1], [0, 1]]
    )
    np.testing.assert_array_equal(
        ballots.sampled(outputs, tickets), [[0, 1], [0, 0], [0, 0], [0, 0]]
    )
    np.testing.assert_allclose(
        ballots.soft(outputs), [[0.2, 0.8], [0, 0], [0, 0], [0, 0]]
    )


def test_tickets_choose_classes_by_their_probability():
    outputs = np.tile(np.array([0.25, 0.0, 0.5, 0.25, 0.0], "float32"), (8, 1))
    tickets = np.array([0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 0.9, 1 - 2**-24])
    votes = np.argmax(ballots.sampled(outputs, tickets.astype("float32")), 1)
    np.testing.assert_array_equal(votes, [0, 0, 2, 2, 2, 3, 3, 3])
