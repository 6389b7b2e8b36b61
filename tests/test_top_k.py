"""Top-k certificates against classifiers whose true radius is known."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import smoothed
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes

NOISES = [ks.noise.Gaussian(0.5), ks.noise.Laplace(0.5), ks.noise.Uniform(1.0)]
LAWS = [stats.norm(0, 0.5), stats.laplace(0, 0.5), stats.uniform(-1, 2)]


def split_half_space():
    """Class 0 where x_0 < 0; beyond, class 1 or 2 by the sign of x_1.

    At x_1 = 0 the rivals are equally likely, so class 0 leaves the top two
    exactly where its probability falls to a third, and the nearest such point
    lies along x_0.
    """
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    kernel = np.array([[0, 1e6, 1e6], [0, 1, -1]], "float32")
    model.layers[0].set_weights([kernel, np.zeros(3, "float32")])
    return model


@pytest.fixture(params=zip(NOISES, LAWS, strict=True), ids=lambda p: str(p[0]))
def noise_and_law(request):
    return request.param


def test_radii_are_the_distance_to_the_true_boundary(noise_and_law):
    noise, law = noise_and_law
    model = ks.SmoothedModel(split_half_space(), noise)
    boundary = law.ppf(2 / 3)  # There class 0 has a third of the votes.
    distance = np.array([-0.1, 0.05, 0.2, 0.4, 0.6]) * noise.stddev
    x = np.zeros((len(distance), 2), "float32")
    x[:, 0] = boundary - distance
    runs = [
        model.certify(
            x, [0] * len(x), top_k=2, n=50_000, alpha=0.05, seed=seed, verbose=0
        )
        for seed in range(5)
    ]
    radius = np.median([run.radius for run in runs], axis=0)
    assert (radius <= np.maximum(distance, 0)).all()
    assert radius[0] == 0
    # Laplace noise is bounded by its likelihood ratio, which is not tight.
    tolerance = {"Gaussian": 0.06, "Uniform": 0.08}.get(
        type(noise).__name__, 0.9
    )
    np.testing.assert_allclose(
        radius[2:], distance[2:], rtol=tolerance, atol=0.02
    )
    # Where no class has a majority, the top one abstains.
    assert (runs[0].prediction[1:] == 0).all()
    first = model.certify(x, n=50_000, alpha=0.05, seed=0, verbose=0)
    assert (first.radius <= runs[0].radius + 1e-12).all()


def test_radii_exceed_the_true_one_at_most_alpha_of_the_time():
    # Counts of three classes at a point whose true radius is known: class 0
    # leaves the top two where it has a third of the votes.
    rng = np.random.default_rng(0)
    noise, runs, alpha = ks.noise.Gaussian(1.0), 20_000, 0.1
    claim = Claim(noise, alpha, ks.FixedSampling(300), top_k=2)
    for p in (0.35, 0.5, 0.9):
        counts = rng.multinomial(300, [p, (1 - p) / 2, (1 - p) / 2], runs)
        true = stats.norm.ppf(p) - stats.norm.ppf(1 / 3)
        votes = Votes(counts, np.full(runs, 300))
        _, radius = claim.prove(votes, np.zeros(runs, int))
        violations = np.sum(radius > true)
        assert violations <= stats.binom.ppf(0.999, runs, alpha)
        assert violations >= stats.binom.ppf(0.001, runs, alpha / 4)


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_no_rivals_overtake_inside_the_radius(top_k):
    rng = np.random.default_rng(1)
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    base.layers[0].set_weights(
        [rng.normal(size=(4, 8)).astype("float32"), np.zeros(8, "float32")]
    )
    model = smoothed(base, sigma=0.5)
    x = rng.normal(size=(20, 4)).astype("float32")
    votes = model.certify(x, n=2_000, seed=5, verbose=0).counts
    labels = np.argsort(-votes, axis=1)[:, top_k // 2]
    result = model.certify(x, labels, top_k=top_k, n=5_000, seed=0, verbose=0)
    certified = result.radius > 0
    assert certified.sum() >= 5

    def overtaken(factor):
        """By how many rivals, at most, somewhere on a sphere."""
        worst = np.zeros(len(x), int)
        for direction in rng.normal(size=(20, 4)):
            step = direction / np.linalg.norm(direction)
            moved = x + factor * result.radius[:, np.newaxis] * step
            counts = model.certify(
                moved.astype("float32"), n=20_000, seed=1, verbose=0
            ).counts
            own = counts[np.arange(len(x)), labels][:, np.newaxis]
            # Four standard deviations of a difference, and more.
            ahead = np.sum(counts > own + 600, axis=1)
            worst = np.maximum(worst, ahead)
        return worst[certified]

    assert (overtaken(0.99) < top_k).all()
    assert (overtaken(4.0) >= top_k).any()


def test_the_radius_grows_with_k(digits_model, digits):
    x, y = digits
    settings = dict(n=2_000, seed=0, verbose=0)
    radii = [digits_model.certify(x, y, top_k=k, **settings) for k in (1, 2, 3)]
    accuracy = [r.certified_accuracy([0.0, 0.25, 0.5]) for r in radii]
    assert (accuracy[0] < accuracy[1]).all() and (
        accuracy[1] <= accuracy[2]
    ).all()
    assert "top 3, Gaussian" in repr(radii[2])


def test_without_labels_the_class_is_the_most_voted(digits_model, digits):
    x, _ = digits
    one = digits_model.certify(x, n=2_000, seed=0, verbose=0)
    two = digits_model.certify(x, n=2_000, top_k=2, seed=0, verbose=0)
    np.testing.assert_array_equal(one.candidate, two.candidate)
    assert (
        two.radius[one.radius > 0] > one.radius[one.radius > 0]
    ).mean() > 0.9


def test_adaptive_sampling_settles_the_top_k_as_well(digits_model, digits):
    x, y = digits
    grid = [0.0, 0.25, 0.5]
    settings = dict(top_k=2, seed=0, verbose=0)
    stopping = ks.AdaptiveSampling(grid, max_n=20_000)
    adaptive = digits_model.certify(x, y, stopping=stopping, **settings)
    fixed = digits_model.certify(x, y, n=20_000, **settings)
    assert adaptive.num_samples.mean() < 10_000
    np.testing.assert_allclose(
        adaptive.certified_accuracy(grid),
        fixed.certified_accuracy(grid),
        atol=0.04,
    )


def test_a_log_keeps_the_k(digits_model, digits, tmp_path):
    x, y = digits
    path = tmp_path / "run.tsv"
    result = digits_model.certify(
        x[:5], y[:5], n=500, top_k=3, log=path, verbose=0
    )
    read = ks.read_log(path)
    assert read.top_k == 3
    np.testing.assert_array_equal(read.radius, result.radius)


@pytest.mark.parametrize(
    "top_k,message",
    [
        (0, "Invalid value for argument `top_k`"),
        (1.5, "Invalid value for argument `top_k`"),
        (2, "below the model's 2 classes. Received: top_k=2"),
    ],
)
def test_bad_k(top_k, message):
    model = smoothed(linear_model([1.0]))
    with pytest.raises(ValueError, match=message):
        model.certify(np.zeros((1, 1), "float32"), top_k=top_k)


def test_too_few_draws_for_any_k_are_named():
    model = ks.SmoothedModel(split_half_space(), ks.noise.Gaussian(1.0))
    with pytest.raises(ValueError, match="Expected n >= .* Received: n=3"):
        model.certify(np.zeros((1, 2), "float32"), n=3, top_k=2)


@pytest.mark.parametrize(
    "noise,law", zip(NOISES, LAWS, strict=True), ids=lambda v: type(v).__name__
)
def test_shifted_never_exceeds_the_probability_after_a_shift(noise, law):
    # Of the half lines, which are the worst events of Gaussian noise.
    p = np.linspace(0.01, 0.99, 99)[:, np.newaxis]
    distance = np.linspace(0, 1.5, 16)
    true = law.cdf(law.ppf(p) - distance)
    bound = noise.shifted(p, distance)
    assert bound.dtype == np.float64 and (bound >= 0).all()
    assert (bound <= true + 1e-12).all()
    if not isinstance(noise, ks.noise.Laplace):
        np.testing.assert_allclose(bound, true, atol=1e-12)
    # At the certified radius of p half of the probability is left.
    above = np.linspace(0.55, 0.95, 5)
    np.testing.assert_allclose(noise.shifted(above, noise.radius(above)), 0.5)
