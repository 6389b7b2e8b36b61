"""The search for sigma: what it finds, against integrals, and what it keeps."""

import keras
import numpy as np
import pytest
from conftest import RootNorm
from conftest import linear_model
from conftest import small_convnet
from conftest import smoothed
from keras import ops
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.special import ndtr
from scipy.special import ndtri

import keras_smoothing as ks
from keras_smoothing.certificates import tiles
from keras_smoothing.sampling import VoteSampler
from keras_smoothing.sampling import noise_blocks
from keras_smoothing.sigma_search.ascent import adam
from keras_smoothing.sigma_search.ascent import ascend

SEARCH = ks.DataDependentSigma(0.1, 2.0, steps=60, beta=1.0)


@keras.saving.register_keras_serializable(package="tests")
class Bump(keras.layers.Layer):
    """Logits of class 0 against class 1: class 0 inside [-1, 1], softly."""

    def call(self, x):
        logit = 12 * (1 - ops.square(x[:, :1]))
        return ops.concatenate([logit, ops.zeros_like(logit)], axis=1)


def bump_model(noise, dimensions=1):
    base = keras.Sequential([keras.Input((dimensions,)), Bump()])
    return ks.SmoothedModel(base, noise)


def exact_radius(noise, x, sigma):
    """The radius that infinitely many draws suggest."""
    if isinstance(noise, ks.noise.Gaussian):
        e = np.linspace(-8, 8, 20_001)
        density = np.exp(-(e**2) / 2)
    else:
        e = np.linspace(-1, 1, 20_001) * np.sqrt(3)
        density = np.ones_like(e)
    p = np.average(expit(12 * (1 - (x + sigma * e) ** 2)), weights=density)
    p1, p2 = np.clip([max(p, 1 - p), min(p, 1 - p)], 1e-3, 1 - 1e-3)
    if isinstance(noise, ks.noise.Gaussian):
        return sigma / 2 * (ndtri(p1) - ndtri(p2))
    return np.sqrt(3) * sigma * (p1 - p2)


@pytest.mark.parametrize(
    "noise",
    [ks.noise.Gaussian(0.3), ks.noise.Uniform(0.4)],
    ids=["gaussian", "uniform"],
)
def test_sigma_is_where_the_radius_is_largest(noise):
    search = ks.DataDependentSigma(
        0.05, 3.0, steps=150, num_draws=8_000, beta=1.0
    )
    x = np.array([[0.0], [0.3], [0.6]], "float32")
    found = search.search(bump_model(noise), x, seed=1)
    for i, point in enumerate(x[:, 0]):
        best = minimize_scalar(
            lambda sigma, at=point: -exact_radius(noise, at, sigma),
            bounds=(0.1, 1.5),
            method="bounded",
        )
        assert 0.15 < best.x < 1.4  # Inside the bounds, where there is a trap.
        # The radius is flat at its maximum, and known to a percent or so.
        assert found.sigma[i] == pytest.approx(best.x, rel=0.2)
        there = exact_radius(noise, point, found.sigma[i])
        assert there > -0.995 * best.fun
        assert found.value_trace[i].max() == pytest.approx(-best.fun, rel=0.04)


def test_the_trace_is_that_of_plain_gradient_ascent():
    model = bump_model(ks.noise.Gaussian(0.3))
    x = np.array([[0.2], [1.5]], "float32")
    search = ks.DataDependentSigma(0.05, 2.0, 8, 0.1, num_draws=64, beta=1.0)
    found = search.search(model, x, seed=5)
    seeds = tiles.tile_seeds(5, tiles.SEARCH, 0, 1)
    noise = noise_blocks.draw_tiles(seeds, (1,), model.noise, None).noise[:64]
    e = ops.convert_to_numpy(noise)[:, 0].astype("f8") / 0.3

    def radius(sigma, at):
        p = expit(12 * (1 - (at + sigma * e) ** 2)).mean()
        p1, p2 = np.clip([max(p, 1 - p), min(p, 1 - p)], 1e-3, 1 - 1e-3)
        return sigma / 2 * (ndtri(p1) - ndtri(p2))

    for i, at in enumerate(x[:, 0].astype("f8")):
        sigma, moves = 0.3, True
        for step in range(9):
            assert found.sigma_trace[i, step] == pytest.approx(sigma, rel=1e-4)
            assert found.value_trace[i, step] == pytest.approx(
                radius(sigma, at), rel=1e-3
            )
            slope = radius(sigma + 1e-6, at) - radius(sigma - 1e-6, at)
            new = np.clip(sigma + 0.1 * slope / 2e-6, 0.05, 2.0)
            moves = moves and abs(new - sigma) > 1e-3 * sigma
            sigma = new if moves else sigma
        best = np.argmax(found.value_trace[i])
        assert found.sigma[i] == pytest.approx(
            found.sigma_trace[i, best], rel=1e-6
        )


def test_where_the_estimate_ends_sigma_ends_at_the_bound():
    # Far from the border every draw is right: p1 is clamped, sigma grows.
    model = smoothed(linear_model([1.0], bias=50.0))
    x = np.zeros((1, 1), "float32")
    found = SEARCH.search(model, x)
    assert found.sigma[0] == np.float32(2.0)
    assert found.sigma_trace.max() <= np.float32(2.0)
    assert (np.diff(found.sigma_trace[0]) >= 0).all()


def test_bounds_hold_from_the_start():
    x = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    for sigma_min, sigma_max in ((0.01, 0.1), (0.5, 0.6)):
        search = ks.DataDependentSigma(sigma_min, sigma_max, 5, 3.0, 10)
        trace = search.search(smoothed(small_convnet()), x).sigma_trace
        assert trace.min() >= np.float32(sigma_min)
        assert trace.max() <= np.float32(sigma_max)


@pytest.fixture(scope="module")
def normalized():
    """A small network with BatchNormalization, and examples."""
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    x = np.random.default_rng(0).random((5, 8, 8, 1), "float32")
    return smoothed(base), x


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [SEARCH, ks.ANCER(ks.DataDependentSigma(0.1, 2.0, 5), steps=5)],
    ids=["common", "ancer"],
)
def test_sigma_of_an_example_knows_no_other(search, normalized):
    model, x = normalized
    together = search.search(model, x, seed=3)
    backwards = search.search(model, x[::-1], seed=3)
    np.testing.assert_array_equal(backwards.sigma[::-1], together.sigma)
    alone = search.search(model, x[2:3], seed=3)
    np.testing.assert_array_equal(alone.sigma, together.sigma[2:3])
    np.testing.assert_array_equal(alone.value_trace, together.value_trace[2:3])
    other = search.search(model, x[2:3], seed=4)
    assert (other.sigma != alone.sigma).any()


def test_statistics_of_the_model_stay_as_they_are(normalized):
    model, x = normalized
    before = [ops.convert_to_numpy(w) for w in model.weights]
    SEARCH.search(model, x)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_logits_and_their_probabilities_are_searched_alike():
    keras.utils.set_random_seed(0)
    logits = small_convnet()
    softmax = keras.Sequential([logits, keras.layers.Softmax()])
    softmax.build((None, 8, 8, 1))
    x = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    one, other = (SEARCH.search(smoothed(m), x) for m in (logits, softmax))
    np.testing.assert_allclose(
        one.value_trace[:, 0], other.value_trace[:, 0], rtol=1e-3
    )


def test_beta_makes_votes_of_probabilities():
    # Where votes have nearly no doubt, probabilities leave some.
    noise = ks.noise.Gaussian(0.1)
    base = keras.Sequential([keras.Input((1,)), Bump()])
    doubtful = keras.Sequential([base, keras.layers.Rescaling(1 / 12)])
    doubtful.build((None, 1))
    x = np.array([[0.2]], "float32")
    arguments = dict(sigma_min=0.05, sigma_max=2.0, num_draws=2_000)
    soft, hard, as_votes = (
        ks.DataDependentSigma(**arguments, beta=beta).search(
            ks.SmoothedModel(model, noise), x
        )
        for model, beta in ((doubtful, 1.0), (doubtful, 60.0), (base, 5.0))
    )
    np.testing.assert_allclose(hard.sigma, as_votes.sigma, rtol=1e-2)

    def of_votes(sigma):
        low, high = ndtr((np.array([-1, 1]) - 0.2) / sigma)
        return -sigma * ndtri(min(high - low, 0.999))

    best = minimize_scalar(of_votes, bounds=(0.1, 1.0), method="bounded")
    assert -of_votes(hard.sigma[0]) > -0.98 * best.fun
    assert -of_votes(soft.sigma[0]) < -0.95 * best.fun
    # What is certified of soft votes are the probabilities.
    softmax = keras.Sequential([doubtful, keras.layers.Softmax()])
    softmax.build((None, 1))
    model = ks.SmoothedModel(softmax, noise, voting="soft")
    found = ks.DataDependentSigma(**arguments, beta=60.0).search(model, x)
    np.testing.assert_allclose(found.sigma, soft.sigma, rtol=1e-2)


@pytest.mark.slow
def test_draws_of_the_search_are_no_others():
    streams = (tiles.SELECTION, tiles.ESTIMATION, tiles.PREDICTION, tiles.PILOT)
    assert tiles.SEARCH not in streams
    # One that saw the draws of the estimate would find 64 sigmas with which
    # these vote for one class. On the border, where each class has half of the
    # votes whatever the sigmas, every certificate is wrong.
    model = smoothed(linear_model(3 * np.ones(64)), sigma=1.0)
    x = np.zeros((1, 64), "float32")
    start = ks.DataDependentSigma(0.5, 5.0, 1, num_draws=32)
    search = ks.ANCER(start, steps=30, learning_rate=0.3)
    wrong = 0
    for seed in range(150):
        with ks.CertificationMemory() as memory:
            result = model.certify(
                x,
                n0=10,
                n=32,
                alpha=0.1,
                seed=seed,
                sigma=search,
                memory=memory,
                check_independence=False,
                verbose=0,
            )
        wrong += result.radius[0] > 0
    # At most 15 are to be expected, with a standard deviation of 4.
    assert wrong < 30


def test_nan_leaves_the_noise_of_the_model():
    class Broken(keras.layers.Layer):
        def call(self, x):
            # For the second example only.
            far = ops.any(ops.abs(x + 90.0) < 50.0, axis=-1, keepdims=True)
            return ops.where(far, float("nan"), 3.0 * x[:, :2])

    base = keras.Sequential([keras.Input((2,)), Broken()])
    model = smoothed(base, sigma=0.3)
    x = np.array([[1.0, 0.5], [-90.0, 0.0], [0.4, 0.5]], "float32")
    found = SEARCH.search(model, x)
    np.testing.assert_array_equal(found.failed, [False, True, False])
    assert found.sigma[1] == 0.3
    with (
        pytest.warns(UserWarning, match=r"example\(s\) \[1\] get the noise of"),
        pytest.warns(UserWarning, match="returned NaN under noise"),
        pytest.warns(UserWarning, match="evidence about each input"),
    ):
        result = model.certify(
            x, n=200, sigma=SEARCH, seed=0, verbose=0, check_independence=False
        )
    np.testing.assert_allclose(
        result.sigma[[0, 2]], found.sigma[[0, 2]], rtol=1e-6
    )
    assert result.scale[1] == 1
    assert result.prediction[1] == ks.ABSTAIN


def test_ancer_widens_what_does_not_matter():
    # Only the first of three coordinates moves the answer.
    model = bump_model(ks.noise.Gaussian(0.3), dimensions=3)
    x = np.zeros((1, 3), "float32")
    start = ks.DataDependentSigma(0.05, 3.0, 80, 0.1, num_draws=500)
    common = start.search(model, x)
    found = ks.ANCER(start, steps=60, learning_rate=0.1).search(model, x)
    first, *others = found.sigma[0]
    assert first == pytest.approx(common.sigma[0], rel=0.15)
    np.testing.assert_array_equal(others, np.float32(3.0))
    mean = np.exp(np.mean(np.log(found.sigma[0])))
    assert found.sigma_trace[0].max() == pytest.approx(mean, rel=1e-4)
    assert found.value_trace[0, 0] == pytest.approx(
        3 * common.value_trace[0].max(), rel=1e-3
    )


def test_geometric_means_do_not_underflow():
    base = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten()]
        + [keras.layers.Dense(3)]
    )
    model = smoothed(base, sigma=1e-3)
    x = np.zeros((1, 28, 28, 1), "float32")
    start = ks.DataDependentSigma(1e-3, 2e-3, 2, 1e-6, num_draws=10)
    with ks.CertificationMemory() as memory:
        result = model.certify(
            x,
            n=200,
            sigma=ks.ANCER(start, steps=2, learning_rate=1e-4),
            memory=memory,
            check_independence=False,
            verbose=0,
        )
    assert 1 < result.mean_scale[0] < 2


def test_adam_is_that_of_keras():
    target = np.array([1.0, -2.0, 0.5], "float32")
    rule, state = adam(0.1, (3,))
    _, _, values = ascend(
        lambda p: -ops.sum(ops.square(p - target) * np.float32([1, 5, 0.1])),
        ops.ones((3,)),
        rule,
        state,
        low=-10.0,
        high=10.0,
        steps=20,
    )
    weights = keras.Variable(np.ones(3, "float32"))
    optimizer = keras.optimizers.Adam(0.1, epsilon=1e-8)
    optimizer.build([weights])
    for value in ops.convert_to_numpy(values):
        away = ops.convert_to_numpy(weights) - target
        factors = np.float32([1, 5, 0.1])
        assert value == pytest.approx(-np.sum(away**2 * factors), rel=1e-3)
        optimizer.apply([2 * away * factors], [weights])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(sigma_min=0.5, sigma_max=0.5), "sigma_min < sigma_max"),
        (dict(sigma_min=0.0), "argument `sigma_min`"),
        (dict(sigma_max=float("inf")), "argument `sigma_max`"),
        (dict(steps=-1), "argument `steps`"),
        (dict(learning_rate=0.0), "argument `learning_rate`"),
        (dict(num_draws=0), "argument `num_draws`"),
        (dict(beta=0.0), "argument `beta`"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        ks.DataDependentSigma(
            **{**dict(sigma_min=0.1, sigma_max=1), **settings}
        )


def test_bad_settings_of_ancer():
    with pytest.raises(ValueError, match="argument `start`"):
        ks.ANCER(0.5)
    with pytest.raises(ValueError, match="argument `kappa`"):
        ks.ANCER(SEARCH, kappa=-1.0)
    model = smoothed(small_convnet(), group=ks.groups.D4())
    x = np.zeros((1, 8, 8, 1), "float32")
    with pytest.raises(ValueError, match="without a group"):
        ks.ANCER(SEARCH).search(model, x)
    with pytest.raises(ValueError, match="without a group"):
        model.certify(x, sigma=ks.ANCER(SEARCH), verbose=0)


def test_bad_input_of_the_search():
    model = smoothed(linear_model([1.0]))
    with pytest.raises(ValueError, match="floating type"):
        SEARCH.search(model, np.zeros((2, 1), int))
    with pytest.raises(ValueError, match="seed"):
        SEARCH.search(model, np.zeros((2, 1)), seed=-1)
    with pytest.raises(ValueError, match="argument `sigma`"):
        model.certify(np.zeros((2, 1), "float32"), sigma=0.5, verbose=0)


class OnlyDrawn(ks.noise.Noise):
    """Noise of which nothing is known."""

    def sample(self, shape, seed):
        return keras.random.normal(shape, seed=seed)


def test_every_noise_says_its_soft_radius():
    p1 = np.array([0.5, 0.6, 0.9, 0.99], "float32")
    for noise in (
        ks.noise.Gaussian(0.5),
        ks.noise.Laplace(0.5),
        ks.noise.Uniform(0.5),
    ):
        radius = ops.convert_to_numpy(noise.soft_radius(p1, 1 - p1))
        # With one rival it is the radius of the certificate.
        np.testing.assert_allclose(
            radius, noise.radius(p1), atol=1e-6, rtol=1e-4
        )
    with pytest.raises(TypeError, match="does not define `soft_radius`"):
        OnlyDrawn().soft_radius(p1, 1 - p1)


def test_searches_are_saved_and_read():
    for search in (SEARCH, ks.ANCER(SEARCH, kappa=1.0)):
        config = keras.saving.serialize_keras_object(search)
        again = keras.saving.deserialize_keras_object(config)
        assert repr(again) == repr(search)


def test_compiled_searches_are_kept(monkeypatch):
    model = smoothed(linear_model([1.0]))
    first = model._searcher(ks.DataDependentSigma(0.1, 1.0))
    assert model._searcher(ks.DataDependentSigma(0.1, 1.0)) is first
    assert model._searcher(ks.DataDependentSigma(0.1, 2.0)) is not first
    assert isinstance(model._sampler(), VoteSampler)
    wide = [ks.ANCER(ks.DataDependentSigma(0.1, s)) for s in (1.0, 1.0, 2.0)]
    first, again, other = map(model._searcher, wide)
    assert again is first and other is not first


def dead_in_half():
    """Its gradient is NaN in the half of the draws that ReLU sets to 0."""
    dense = keras.layers.Dense(2)
    base = keras.Sequential(
        [keras.Input((1,)), keras.layers.ReLU(), RootNorm(), dense]
    )
    dense.set_weights([np.array([[-9.0, 9.0]]), np.array([1.0, -1.0])])
    return base


def test_a_gradient_that_is_nan_stops_no_search():
    # Where the norm is small it is class 0: the less noise, the surer.
    x = np.full((3, 1), -0.2, "float32")
    found = SEARCH.search(smoothed(dead_in_half(), sigma=0.5), x)
    assert not found.failed.any()
    assert (np.abs(found.sigma - 0.5) > 0.05).all()
