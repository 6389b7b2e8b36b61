"""What votes for many components prove together, by simulation."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates import LabelClaim
from keras_smoothing.certificates import PixelClaim
from keras_smoothing.certificates.bounds import lower_confidence_bound
from keras_smoothing.certificates.laws import needed_probability

NOISE = ks.noise.Gaussian(sigma=0.5)
TRIALS, N, ALPHA, COMPONENTS = 20_000, 100, 0.05, 8
RADIUS = 0.4


def claim(correction, **changes):
    radius = RADIUS if correction == "holm" else None
    settings = dict(noise=NOISE, alpha=ALPHA, n=N, radius=radius)
    return PixelClaim(correction=correction, **{**settings, **changes})


def directions(dependence):
    """Unit vectors of linear scores, `(components, dimensions)`."""
    own = np.eye(COMPONENTS, COMPONENTS + 1)
    common = np.zeros_like(own)
    common[:, -1] = 1
    share = {"none": 0.0, "some": 0.5, "all": 1.0}[dependence]
    return np.sqrt(1 - share) * own + np.sqrt(share) * common


@pytest.fixture(scope="module", params=["none", "some", "all"])
def draws(request):
    """Shared draws of dependent scores: how they depend, and the scores."""
    return request.param, scores(request.param)


def scores(dependence):
    """float32 array, shape `(trials, draws, components)`."""
    weights = directions(dependence).T.astype("float32")
    shape = (TRIALS, N, len(weights))
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, np.float32) @ weights


def votes(p, scores):
    """Votes for classes of probability p: `(trials, components)`."""
    margins = stats.norm.ppf(p).astype("float32")
    return (scores < margins).sum(axis=1)


def violations(claim, counts, p):
    """Which bounds are wrong: bool array, shape `(trials, components)`."""
    p_lower, radius = claim.prove(counts, np.zeros_like(counts))
    wrong = p_lower > p
    # What votes prove of probabilities they prove of radii, too.
    np.testing.assert_array_equal(wrong & (radius > 0), radius > true_radius(p))
    return wrong


def true_radius(p):
    return np.maximum(NOISE.sigma * stats.norm.ppf(p), 0.0)


def most(trials, alpha):
    return stats.binom.ppf(0.999, trials, alpha)


def test_bonferroni_holds_of_all_components_together(draws):
    dependence, scores = draws
    # Just below a bound that votes can give, where it fails most often.
    level = ALPHA / COMPONENTS
    p = lower_confidence_bound(80 + np.arange(COMPONENTS), N, level) - 1e-9
    wrong = violations(claim("bonferroni"), votes(p, scores), p)
    assert wrong.any(axis=1).sum() <= most(TRIALS, ALPHA)
    assert (wrong.sum(axis=0) <= most(TRIALS, level)).all()
    if dependence == "none":  # Nor is it loose.
        assert wrong.any(axis=1).mean() > 0.8 * ALPHA


@pytest.mark.parametrize("true", [2, 4, 8])
def test_holm_holds_of_all_components_together(draws, true):
    dependence, scores = draws
    # So many hypotheses are true, at their limit; the others are rejected
    # first, and leave them a larger level.
    tau = float(needed_probability(NOISE, RADIUS))
    p = np.where(np.arange(COMPONENTS) < true, tau - 1e-9, 0.9999)
    counts = votes(p, scores)
    p_lower, radius = claim("holm").prove(counts, np.zeros_like(counts))
    wrong = (radius > 0) & (p < tau)
    assert wrong.any(axis=1).sum() <= most(TRIALS, ALPHA)
    assert np.all((radius[:, true:] == RADIUS).mean(axis=0) > 0.99)
    if dependence == "none":
        # A binomial test rejects a little less often than its level.
        least = 0.5 * stats.binom.sf(_smallest(tau, ALPHA / true) - 1, N, tau)
        assert wrong.any(axis=1).mean() > least * true


def _smallest(tau, level):
    """The smallest number of votes that a test at a level rejects for."""
    k = np.arange(N + 1)
    return k[stats.binom.sf(k - 1, N, tau) <= level][0]


def test_a_component_by_itself_holds_with_alpha():
    p = lower_confidence_bound(80 + np.arange(COMPONENTS), N, ALPHA) - 1e-9
    wrong = violations(claim(None), votes(p, scores("some")), p)
    assert (wrong.sum(axis=0) <= most(TRIALS, ALPHA)).all()
    assert (wrong.mean(axis=0) > 0.8 * ALPHA).all()
    # And that is not enough for all of them.
    assert wrong.any(axis=1).sum() > most(TRIALS, ALPHA)


@pytest.mark.parametrize("correction", ["bonferroni", "holm"])
def test_an_alpha_may_be_shared_by_examples(correction):
    # Pairs of components as two examples, which share their draws.
    examples, level = 4, ALPHA / COMPONENTS
    tau = float(needed_probability(NOISE, RADIUS))
    bound = lower_confidence_bound(90, N, level) - 1e-9
    p = np.full(COMPONENTS, tau - 1e-9 if correction == "holm" else bound)
    counts = votes(p, scores("none")).reshape(TRIALS * examples, -1)
    shared = claim(correction).shared_by(examples)
    p_lower, radius = shared.prove(counts, np.zeros_like(counts))
    wrong = (p_lower > p[0]).reshape(TRIALS, -1).any(axis=1)
    assert wrong.sum() <= most(TRIALS, ALPHA)
    assert wrong.mean() > 0.3 * ALPHA


def holm_as_in_the_paper(counts, alpha, tau):
    """Which components are certified, one at a time."""
    p_values = [
        stats.binomtest(int(k), N, tau, alternative="greater").pvalue
        for k in counts
    ]
    certified, left = np.zeros(len(counts), bool), len(counts)
    for i in np.argsort(p_values):
        if p_values[i] > alpha / left:
            break
        certified[i], left = True, left - 1
    return certified


def test_holm_is_the_step_down_procedure():
    tau = float(needed_probability(NOISE, RADIUS))
    rng = np.random.default_rng(0)
    # Around the limit, where single steps decide.
    counts = rng.integers(84, 97, (200, 2, 3))
    p_lower, radius = claim("holm").prove(counts, np.zeros_like(counts))
    expected = [
        holm_as_in_the_paper(k.ravel(), ALPHA, tau).reshape(2, 3)
        for k in counts
    ]
    np.testing.assert_array_equal(radius > 0, expected)
    assert set(np.unique(radius)) == {0.0, RADIUS}
    assert 100 < (radius > 0).sum() < 1_100
    np.testing.assert_array_equal(p_lower, np.where(radius > 0, tau, 0))


def test_holm_certifies_at_least_what_bonferroni_does_at_its_radius():
    counts = np.random.default_rng(1).integers(0, N + 1, (500, 5))
    candidate = np.zeros_like(counts)
    _, by_bonferroni = claim("bonferroni").prove(counts, candidate)
    _, by_holm = claim("holm").prove(counts, candidate)
    assert (by_holm[by_bonferroni > RADIUS] == RADIUS).all()
    assert (by_holm > 0).sum() > (by_bonferroni > RADIUS).sum()


def test_bonferroni_is_the_bound_of_one_component_at_its_share():
    counts = np.arange(101).reshape(1, 101)
    p_lower, radius = claim("bonferroni").prove(counts, 0 * counts)
    bound = lower_confidence_bound(counts, N, ALPHA / 101)
    np.testing.assert_array_equal(p_lower, bound)
    np.testing.assert_array_equal(
        radius, np.where(bound > 0.5, NOISE.radius(bound), 0)
    )
    nothing = claim("bonferroni").prove(counts, 0 * counts - 1)
    assert (np.array(nothing) == 0).all()
    assert (claim("holm").prove(counts, 0 * counts - 1)[1] == 0).all()


@pytest.mark.parametrize("noise", [NOISE, ks.noise.Uniform(1.0)], ids=str)
@pytest.mark.parametrize("correction", ["bonferroni", "holm", None])
@pytest.mark.parametrize("components", [1, 7, 5_000])
def test_the_smallest_n_is_the_smallest(noise, correction, components):
    one = claim(correction, noise=noise)
    n = one.smallest_n(components)
    votes = np.full((1, components), 1)

    def proves(n):
        other = dataclasses.replace(one, n=n)
        return other.prove(n * votes, 0 * votes)[1].any()

    assert proves(n) and not proves(n - 1)
    largest = dataclasses.replace(one, n=1_000).largest_radius(components)
    level = ALPHA if correction is None else ALPHA / components
    np.testing.assert_allclose(largest, noise.radius(level ** (1 / 1_000)))
    if correction == "holm":
        for radius, is_proved in ((0.999 * largest, True), (largest, False)):
            _, proved = dataclasses.replace(
                one, n=1_000, radius=1.0001 * radius
            ).prove(1_000 * votes, 0 * votes)
            assert proved.all() == is_proved == proved.any()


def test_no_votes_prove_a_radius_beyond_the_noise():
    impossible = PixelClaim(
        ks.noise.Uniform(1.0), ALPHA, N, correction="holm", radius=1.1
    )
    assert impossible.smallest_n(3) is None
    counts = np.full((1, 3), N)
    assert (impossible.prove(counts, 0 * counts)[1] == 0).all()


def test_statements():
    text = claim("bonferroni").statement
    assert "1 - 0.05, for all pixels of an example together" in text
    assert "radius of a pixel, in l2 distance" in text
    assert "abstention states nothing" in text
    text = claim("holm").statement
    assert "than 0.4, in l2" in text and "together" in text
    text = claim(None).statement
    assert "each pixel on its own, and not for all together" in text
    group = ks.groups.D4("channels_last")
    text = LabelClaim(NOISE, 0.01, N, group=group).statement
    assert "all labels" in text and "l2 up to D4" in text


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(noise=0.5), "Gaussian"),
        (dict(alpha=1.0), "`alpha`"),
        (dict(n=0), "`n`"),
        (dict(correction="sidak"), "Received: correction='sidak'"),
        (dict(correction="holm"), '`radius` with correction="holm"'),
        (dict(radius=0.5), '`radius` with correction="holm"'),
        (dict(correction=None, radius=0.5), "`radius` with correction"),
        (dict(correction="holm", radius=0.0), "number > 0"),
    ],
)
def test_bad_claims(changes, message):
    settings = {"noise": NOISE, "alpha": 0.1, "n": 10, **changes}
    with pytest.raises(ValueError, match=message):
        PixelClaim(**settings)


@pytest.mark.parametrize("correction", ["bonferroni", None])
def test_radii_are_less_by_the_rounding_of_the_example(correction):
    claim = PixelClaim(NOISE, 0.01, 200, correction)
    rng = np.random.default_rng(0)
    votes = rng.integers(100, 201, (4, 3, 5))
    candidate = rng.integers(-1, 3, votes.shape)
    rounding = np.array([0.0, 1e-9, 0.1, 10.0])
    p_lower, radius = claim.prove(votes, candidate)
    same, less = claim.prove(votes, candidate, rounding)
    np.testing.assert_array_equal(same, p_lower)
    np.testing.assert_array_equal(less[0], radius[0])
    left = np.maximum(radius - rounding[:, np.newaxis, np.newaxis], 0)
    np.testing.assert_allclose(less, left, atol=1e-15)
    assert (less <= left).all() and not less[3].any() and less[2].any()


def test_a_fixed_radius_is_proved_beyond_the_rounding():
    claim = PixelClaim(NOISE, 0.01, 200, "holm", 0.2)
    rng = np.random.default_rng(0)
    votes = rng.integers(120, 201, (4, 3, 5))
    candidate = np.zeros_like(votes)
    rounding = np.array([0.0, 1e-9, 0.1, 0.1])
    tau, radius = claim.prove(votes, candidate, rounding)
    assert set(np.unique(radius)) == {0.0, 0.2}
    for i, further in enumerate(rounding):
        other = PixelClaim(NOISE, 0.01, 200, "holm", 0.2 + further)
        expected = other.prove(votes[i : i + 1], candidate[i : i + 1])
        np.testing.assert_array_equal(radius[i] > 0, expected[1][0] > 0)
        np.testing.assert_allclose(tau[i], expected[0][0], rtol=1e-12)
    assert not claim.prove(votes, candidate, 1e3)[1].any()
