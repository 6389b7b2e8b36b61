import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import keras_smoothing as ks

tfd = tfp.distributions

NOISES = [
    (ks.noise.Gaussian(0.3), stats.norm(scale=0.3)),
    (ks.noise.Laplace(0.3), stats.laplace(scale=0.3)),
    (ks.noise.Uniform(0.3), stats.uniform(-0.3, 0.6)),
    (ks.noise.Distribution(tfd.StudentT(4.0, 0.0, 0.3)), stats.t(4, scale=0.3)),
]


@pytest.mark.parametrize("noise,law", NOISES, ids=lambda v: type(v).__name__)
def test_samples_follow_their_law(noise, law):
    sample = np.asarray(noise.sample((300, 200), seed=1))
    assert sample.dtype == np.float32
    assert np.isfinite(sample).all()
    assert stats.kstest(sample.ravel(), law.cdf).pvalue > 1e-3
    assert np.isclose(noise.stddev, law.std(), rtol=1e-5)


@pytest.mark.parametrize(
    "noise,law", NOISES[:3], ids=lambda v: type(v).__name__
)
def test_radius_is_the_shift_that_makes_the_classes_equally_likely(noise, law):
    # Of a classifier sign(x_1): at distance r the top class has probability
    # P(e > -r), so the radius at that probability is r again.
    shifts = 0.3 * np.array([0.0, 0.1, 0.5, 0.9])
    np.testing.assert_allclose(
        noise.radius(law.sf(-shifts)), shifts, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("noise,_", NOISES[:3], ids=lambda v: type(v).__name__)
def test_radius_is_float64_and_zero_up_to_one_half(noise, _):
    radius = noise.radius(np.array([0.0, 0.2, 0.5], np.float32))
    assert radius.dtype == np.float64
    assert (radius == 0).all()
    assert not np.signbit(radius).any()


def test_radius_is_accurate_where_float32_is_not():
    p = 1 - 1e-7
    expected = stats.norm.ppf(p)
    assert ks.noise.Gaussian(1.0).radius(p) == pytest.approx(expected, 1e-12)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_radius_rejects_what_is_no_probability(p):
    with pytest.raises(ValueError, match="probabilities in"):
        ks.noise.Gaussian(1.0).radius(p)


@pytest.mark.parametrize(
    "kind", [ks.noise.Gaussian, ks.noise.Laplace, ks.noise.Uniform]
)
@pytest.mark.parametrize(
    "scale", [0, -1, float("nan"), float("inf"), None, "1", True]
)
def test_scale_must_be_positive_and_finite(kind, scale):
    with pytest.raises(ValueError, match="Expected a finite number > 0"):
        kind(scale)


def test_laplace_noise_is_finite_at_the_ends_of_the_uniform(monkeypatch):
    ends = np.array([0, 2**-23, 0.5, 1 - 2**-23], "float32")
    monkeypatch.setattr(keras.random, "uniform", lambda *_, **__: ends)
    sample = np.asarray(ks.noise.Laplace(1.0).sample((4,), seed=0))
    assert np.isfinite(sample).all()
    np.testing.assert_allclose(sample[0], -sample[3], rtol=1e-6)


@pytest.mark.parametrize(
    "distribution,noise",
    [
        (tfd.Normal(0.0, 0.25), ks.noise.Gaussian(0.25)),
        (tfd.Normal(0.7, 0.25), ks.noise.Gaussian(0.25)),
        (tfd.Laplace(0.0, 0.5), ks.noise.Laplace(0.5)),
        (tfd.Uniform(-0.5, 0.5), ks.noise.Uniform(0.5)),
    ],
)
def test_known_distributions_certify(distribution, noise):
    adapter = ks.noise.Distribution(distribution)
    assert adapter.norm == noise.norm
    np.testing.assert_allclose(adapter.radius(0.9), noise.radius(0.9))


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.StudentT(4.0, 0.0, 0.1),
        tfd.Normal([0.0, 0.0], 0.25),
        tfd.TruncatedNormal(0.0, 0.25, -1.0, 1.0),
        # The formula would not follow a variable, nor float32 the noise.
        tfd.Normal(0.0, tf.Variable(1.0)),
        tfd.Normal(1e6, 0.01),
        tfd.Uniform(1e6, 1e6 + 1),
    ],
)
def test_unknown_distributions_refuse_to_certify(distribution):
    adapter = ks.noise.Distribution(distribution)
    with pytest.raises(ValueError, match="No radius formula is known"):
        adapter.radius(0.9)
    model = ks.SmoothedModel(
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), adapter
    )
    x = np.zeros((3, 2), "float32")
    assert model.predict(x, verbose=0).shape == (3, 2)
    with pytest.raises(ValueError, match="No radius formula is known"):
        model.certify(x, verbose=0)


def test_distribution_with_a_shape_of_its_own():
    scales = np.linspace(0.1, 1, 3).astype("float32")
    noise = ks.noise.Distribution(
        tfd.MultivariateNormalDiag(0 * scales, scales)
    )
    sample = np.asarray(noise.sample((20_000, 3), seed=0))
    np.testing.assert_allclose(sample.std(axis=0), scales, rtol=0.05)
    with pytest.raises(ValueError, match="ends with the distribution's"):
        noise.sample((10, 4), seed=0)


def test_distribution_of_distributions_survives_its_config():
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.3, 0.7]), tfd.Normal([0.0, 0.0], [0.1, 1.0])
    )
    noise = ks.noise.Distribution(mixture)
    copy = ks.noise.Distribution.from_config(noise.get_config())
    same = [np.asarray(n.sample((50,), seed=3)) for n in (noise, copy)]
    np.testing.assert_array_equal(*same)


def test_distribution_refuses_other_objects():
    with pytest.raises(ValueError, match="Expected a tensorflow_probability"):
        ks.noise.Distribution(0.25)
    config = {"distribution_name": "Distribution.mro", "parameters": {}}
    with pytest.raises(ValueError, match="Expected the name of"):
        ks.noise.Distribution.from_config({"distribution": config})
