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


@pytest.mark.parametrize("noise,_", NOISES[:3], ids=lambda v: type(v).__name__)
def test_total_variation_bounds_what_a_move_changes(noise, _):
    distance = 0.3 * np.array([0.0, 1e-9, 1e-3, 0.1, 1.0, 3.0])
    found = noise.total_variation(distance)
    p = np.linspace(0, 1, 100_001)
    with np.errstate(invalid="ignore"):
        least = [np.nanmax(p - noise.shifted(p, d)) for d in distance]
    error = 2**-51  # Of differences of numbers near 1.
    assert found[0] == 0 and (found <= 1).all()
    assert (found >= np.array(least) - error).all()
    np.testing.assert_allclose(found, least, rtol=1e-3, atol=error)
    # So does the bound of noise that has no formula of its own.
    general = ks.noise.Noise.total_variation(noise, distance)
    assert general[0] == 0 and (general >= found).all()
    np.testing.assert_allclose(general, found, atol=2**-15)


def test_total_variation_of_noise_in_noise():
    noise = ks.noise.Gaussian(0.3)
    equal = ks.noise.Distribution(tfd.Normal(0.0, np.float32(0.3)))
    np.testing.assert_allclose(
        equal.total_variation([0.0, 0.1]),
        noise.total_variation([0.0, 0.1]),
        rtol=1e-6,
    )
    unknown = ks.noise.Distribution(tfd.StudentT(4.0, 0.0, 0.3))
    assert unknown.total_variation(np.zeros(3)).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="No radius formula"):
        unknown.total_variation([0.1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "kind", [tfd.Normal, tfd.Laplace, tfd.Uniform, tfd.Cauchy]
)
def test_distributions_narrower_than_float32_are_refused(kind, dtype):
    low, high = (tf.constant(value, dtype) for value in (-0.5, 0.5))
    first = low if kind is tfd.Uniform else tf.zeros((), dtype)
    with pytest.raises(ValueError, match="coarse grid"):
        ks.noise.Distribution(kind(first, high))


class Coarse(ks.noise.Gaussian):
    """Gaussian noise that is rounded."""

    def sample(self, shape, seed):
        return keras.ops.cast(super().sample(shape, seed), "float16")


@pytest.mark.parametrize("several", [False, True])
def test_draws_narrower_than_float32_are_refused(several):
    noise, x = Coarse(0.5), np.zeros((2, 2), "float32")
    base = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    if several:
        inputs = [keras.Input((2,), name=name) for name in "ab"]
        base = keras.Model(inputs, base(inputs[0] + inputs[1]))
        noise, x = {"a": noise}, {"a": x, "b": x}
    model = ks.SmoothedModel(base, noise)
    settings = dict(n=100, check_independence=False)
    for call in (
        lambda: model.certify(x, verbose=0, **settings),
        (lambda: model.classify(x, **settings)),
    ):
        with pytest.raises(ValueError, match="draws in float32"):
            call()


SCALED = {
    "Gaussian": ks.noise.Gaussian,
    "Laplace": ks.noise.Laplace,
    "Uniform": ks.noise.Uniform,
    "Normal": lambda scale: ks.noise.Distribution(tfd.Normal(0.0, scale)),
    "GaussianNoiseAlways": ks.layers.GaussianNoiseAlways,
    "LaplaceNoiseAlways": ks.layers.LaplaceNoiseAlways,
    "UniformNoiseAlways": ks.layers.UniformNoiseAlways,
    "sigma_min": lambda scale: ks.DataDependentSigma(scale, 2.0**100),
    "sigma_max": lambda scale: ks.DataDependentSigma(2.0**-100, scale),
}


@pytest.mark.parametrize("scale", [1e-39, 5e-31, 2e30, 1e38])
@pytest.mark.parametrize("name", SCALED)
def test_noise_that_float32_does_not_hold_is_refused(name, scale):
    with pytest.raises(ValueError, match="float32 does not hold"):
        SCALED[name](scale)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("name", SCALED)
def test_noise_that_float32_holds_is_taken(name, scale):
    SCALED[name](scale)


@pytest.mark.parametrize("kind", [ks.noise.Gaussian, ks.noise.Laplace])
def test_the_least_noise_is_drawn_in_full(kind):
    noise = kind(2.0**-100)
    draws = np.asarray(noise.sample((200, 500), seed=0))
    unit = np.asarray(kind(1.0).sample((200, 500), seed=0))
    np.testing.assert_array_equal(draws * np.float32(2.0**100), unit)
    assert np.isfinite(np.asarray(kind(2.0**100).sample((200, 500), 0))).all()


class Tiny(ks.noise.Gaussian):
    """Of a user, who checks nothing."""

    def __init__(self, sigma):
        self.sigma = sigma


def test_noise_that_does_not_check_itself_is_refused_where_it_is_used():
    base = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, Tiny(1e-39))
    with pytest.raises(ValueError, match="float32 holds"):
        model.certify(np.zeros((2, 2), "float32"), n=100, verbose=0)


def test_a_search_far_from_the_noise_of_the_model_is_refused():
    base = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(1e20))
    search = ks.DataDependentSigma(1e-20, 1.0)
    with pytest.raises(ValueError, match="sigma_min / stddev"):
        search.search(model, np.zeros((2, 2), "float32"))
