"""Stopping rules on simulated votes, whose true radius is known."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import smoothed
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes
from keras_smoothing.certify.classification import draw_until_decided

NOISE = ks.noise.Gaussian(0.5)
RADII = [0.0, 0.25, 0.5, 0.75, 1.0]


def simulate(p, stopping, alpha, seed=0):
    """Certificates of examples whose class has the probabilities `p`."""
    rng = np.random.default_rng(seed)
    candidate = np.zeros(len(p), np.int64)
    claim = Claim(NOISE, alpha, stopping)

    def draw(which, start, stop):
        votes = rng.binomial(stop - start, p[which])
        counts = np.stack([votes, stop - start - votes], axis=1)
        return Votes(counts, np.full(len(which), stop - start))

    votes = draw_until_decided(draw, candidate, claim, np.ones(len(p)))
    return ks.CertificationResult.from_counts(
        candidate,
        votes.counts,
        votes.num_samples,
        claim,
        label=candidate,
        time=np.zeros(len(p)),
    )


def probabilities(radius):
    return stats.norm.cdf(np.asarray(radius) / NOISE.sigma)


class Hostile(ks.AdaptiveSampling):
    """Stops as soon as the radius exceeds the true one: the worst of rules."""

    def __init__(self, true_radius, max_n):
        super().__init__([0.0], max_n=max_n)
        self.true_radius = true_radius

    def is_decided(self, prove, candidate, votes):
        return prove(votes)[1] > self.true_radius


@pytest.mark.parametrize("alpha", [0.1, 0.001])
def test_violations_stay_within_alpha_whatever_the_rule(alpha):
    violations, runs = 0, 20_000
    for radius in (0.01, 0.25, 0.8, 1.2):
        p = np.full(runs, probabilities(radius))
        result = simulate(p, Hostile(radius, max_n=20_000), alpha, seed=1)
        violations += np.sum(result.radius > radius)
    assert violations <= stats.binom.ppf(0.999, 4 * runs, alpha)
    # What the union bound gives away is no more than half.
    assert violations >= stats.binom.ppf(0.001, 4 * runs, alpha / 2)


@pytest.mark.parametrize("alpha", [0.1, 0.001])
def test_violations_stay_within_alpha_next_to_the_edges(alpha):
    # Below an edge by so little that most runs go on for long.
    below = np.array([1e-5, 1e-4, 1e-3, 3e-3])
    edges = np.array(RADII)[1:, np.newaxis]
    p = np.repeat(probabilities(edges - below).ravel(), 1_500)
    assert len(p) == 24_000
    violations = [
        np.sum(simulate(p, stopping, alpha).radius > NOISE.radius(p))
        for stopping in (
            ks.AdaptiveSampling(RADII, max_n=20_000),
            ks.AdaptiveSampling(width=0.1, max_n=20_000),
        )
    ]
    assert 0 < max(violations) <= stats.binom.ppf(0.999, len(p), alpha)


def test_undecidable_examples_are_certified_at_most_alpha_of_the_time():
    p = np.full(20_000, 0.5)
    for stopping in (
        ks.AdaptiveSampling(RADII, max_n=5_000),
        ks.AdaptiveSampling(width=0.05, max_n=5_000),
    ):
        result = simulate(p, stopping, alpha=0.05)
        certified = np.sum(result.radius > 0)
        assert 0 < certified <= stats.binom.ppf(0.999, len(p), 0.05)


@pytest.mark.parametrize("sigma_units", [0.25, 0.5, 1.0])
def test_the_table_of_fixed_sampling_for_a_fraction_of_its_draws(sigma_units):
    # True radii as those of published runs: some wrong, the others spread out.
    rng = np.random.default_rng(1)
    radii = NOISE.sigma * np.concatenate(
        [rng.uniform(-2, 0, 2_000), rng.exponential(1.3, 8_000)]
    )
    p = probabilities(radii)
    grid = NOISE.sigma * np.arange(0, 3.5, sigma_units)
    fixed = simulate(p, ks.FixedSampling(100_000), alpha=0.001)
    adaptive = simulate(p, ks.AdaptiveSampling(grid), alpha=0.001)
    lost = fixed.certified_accuracy(grid) - adaptive.certified_accuracy(grid)
    assert np.abs(lost).max() < 0.005
    assert adaptive.num_samples.mean() < 0.2 * 100_000


def test_draws_go_to_the_examples_next_to_an_edge():
    stopping = ks.AdaptiveSampling(RADII)
    radii = np.array([-1.0, 0.006, 0.125, 0.375, 0.51, 1.5])
    p = np.repeat(probabilities(radii), 25)
    result = simulate(p, stopping, alpha=0.001)
    n = np.median(result.num_samples.reshape(-1, 25), axis=1)
    # Far below the first edge and above the last, in the middle of a cell, and
    # next to an edge.
    assert n[0] < 1_000 and n[5] < 5_000
    assert n[2] < 5_000 and n[3] < 5_000
    assert n[1] > 30_000 and n[4] > 30_000
    assert (result.prediction[:25] == ks.ABSTAIN).all()
    assert set(result.num_samples) <= set(stopping.looks)


def test_the_radius_is_the_one_proved_and_not_the_edge():
    result = simulate(
        probabilities([0.375] * 100), ks.AdaptiveSampling(RADII), 0.001
    )
    assert ((0.25 <= result.radius) & (result.radius < 0.375)).all()
    assert len(np.unique(result.radius)) > 50


def test_edges_that_no_votes_can_reach_cost_nothing():
    p = probabilities([1.5] * 50)
    few = simulate(p, ks.AdaptiveSampling([0.0, 1.0]), 0.001)
    same = simulate(p, ks.AdaptiveSampling([0.0, 1.0, 5.0, 50.0]), 0.001)
    np.testing.assert_array_equal(few.num_samples, same.num_samples)


def test_width_bounds_what_more_draws_could_add():
    radii = np.linspace(0.05, 1.2, 200)
    p = probabilities(radii)
    fixed = simulate(p, ks.FixedSampling(100_000), alpha=0.001)
    means = []
    for width in (0.02, 0.05, 0.2):
        result = simulate(p, ks.AdaptiveSampling(width=width), alpha=0.001)
        assert np.mean(fixed.radius - result.radius) < width
        assert np.max(fixed.radius - result.radius) < 2 * width
        np.testing.assert_array_equal(result.prediction, fixed.prediction)
        means.append(result.num_samples.mean())
    assert means[2] < means[1] / 4 < means[0] / 8


def test_adaptive_votes_recertify_at_the_look_they_were_taken():
    stopping = ks.AdaptiveSampling(RADII, max_n=10_000)
    result = simulate(probabilities([0.3] * 50), stopping, alpha=0.001)
    again = result.recertify(0.001)
    np.testing.assert_array_equal(again.radius, result.radius)
    assert (result.recertify(1e-6).radius < result.radius).all()
    with pytest.raises(ValueError, match="among the looks"):
        ks.CertificationResult.from_counts(
            result.candidate,
            result.counts,
            result.num_samples + 1,
            result.claim,
        )


@pytest.mark.parametrize("max_n", [1, 249, 250, 1_000, 100_000, 1_234_567])
def test_looks_are_increasing_and_share_alpha(max_n):
    stopping = ks.AdaptiveSampling([0.0], max_n=max_n)
    assert stopping.looks[-1] == stopping.max_n == max_n
    assert (np.diff(stopping.looks) > 0).all()
    assert len(stopping.shares) == len(stopping.looks)
    assert sum(stopping.shares) <= 1 + 1e-12
    assert min(stopping.shares) > 0
    np.testing.assert_array_equal(
        stopping.share(np.array(stopping.looks)), stopping.shares
    )


@pytest.mark.parametrize(
    "stopping",
    [
        ks.FixedSampling(500),
        ks.AdaptiveSampling([0.5, 0.0, 0.5], max_n=5_000),
        ks.AdaptiveSampling(width=0.1),
    ],
    ids=repr,
)
def test_rules_survive_serialization(stopping):
    config = keras.saving.serialize_keras_object(stopping)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(stopping)
    assert repr(copy) == repr(stopping)
    assert copy.looks == stopping.looks and copy.shares == stopping.shares


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(), "either `radii` or `width`"),
        (dict(radii=[0.0], width=0.1), "either `radii` or `width`"),
        (dict(radii=[]), "argument `radii`"),
        (dict(radii=[-0.1]), "finite numbers >= 0"),
        (dict(radii=[np.nan]), "finite numbers >= 0"),
        (dict(radii="wide"), "argument `radii`"),
        (dict(width=0), "Invalid value for argument `width`"),
        (dict(radii=[0.0], max_n=0), "Invalid value for argument `max_n`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.AdaptiveSampling(**arguments)


class Rule(ks.certificates.StoppingRule):
    """Two looks with given shares, of which the first never is the last."""

    def __init__(self, looks=(50, 1_000), shares=(0.5, 0.5), window=16):
        super().__init__(looks, shares, window)

    def is_decided(self, prove, candidate, votes):
        return np.zeros(len(candidate), bool)

    def get_config(self):
        return {}


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(shares=(50, 50)), "at most 1. Received: shares=.50, 50"),
        (dict(shares=(0.5, 0.5 + 1e-11)), "at most 1"),
        (dict(shares=(1.5, -0.5)), "`shares` > 0"),
        (dict(shares=(1.0, 0.0)), "`shares` > 0"),
        (dict(shares=(0.5, np.nan)), "`shares` > 0"),
        (dict(shares=(1.0,)), "one for each look"),
        (dict(shares=(0.3, 0.3, 0.3)), "one for each look"),
        (dict(looks=(1_000, 50)), "increasing `looks`"),
        (dict(looks=(50, 50)), "increasing `looks`"),
        (dict(looks=(0, 50)), "argument `looks`"),
        (dict(looks=(50, 1_000.5)), "argument `looks`"),
        (dict(looks=(), shares=()), "at least one"),
        (dict(window=0), "argument `window`"),
    ],
)
def test_a_rule_with_no_proof_is_not_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        Rule(**arguments)


def test_rounding_of_the_shares_is_no_matter():
    assert sum((0.1,) * 10) < 1 < sum((0.1, 0.2, 0.7 + 1e-13))
    Rule(shares=(0.3, 0.7 + 1e-13))
    Rule(looks=tuple(range(1, 11)), shares=(0.1,) * 10)


class ChangesItsShares(Rule):
    def __init__(self):
        super().__init__()
        self.shares = (50, 50)


class OverridesShare(Rule):
    def share(self, num_samples):
        return np.ones(np.shape(num_samples))


class ChangesItsLooks(Rule):
    def __init__(self):
        super().__init__()
        self.looks = (50, 100, 1_000)


class ChangesMaxN(Rule):
    def __init__(self):
        super().__init__()
        self.max_n = 10_000


@pytest.mark.parametrize(
    "kind,message",
    [
        (ChangesItsShares, "at most 1"),
        (OverridesShare, "at most 1"),
        (ChangesItsLooks, "one for each look"),
        (ChangesMaxN, "`max_n`"),
    ],
)
def test_a_rule_with_no_proof_is_not_used(kind, message):
    with pytest.raises(ValueError, match=message):
        Claim(NOISE, 0.001, kind())
    model = smoothed(linear_model([1.0]))
    with pytest.raises(ValueError, match=message):
        model.certify(np.ones((1, 1), "float32"), stopping=kind(), verbose=0)


def test_a_rule_that_changes_after_the_claim_proves_nothing():
    rule = Rule()
    claim = Claim(NOISE, 0.001, rule)
    votes = Votes(np.array([[900, 100]]), np.array([1_000]))
    _, radius = claim.prove(votes, np.array([0]))
    assert radius > 0
    rule.shares = (50, 50)
    with pytest.raises(ValueError, match="at most 1"):
        claim.prove(votes, np.array([0]))


@pytest.mark.parametrize("answer", [np.ones, lambda count: True])
def test_a_rule_decides_by_one_bool_for_each_example(answer):
    class Decides(Rule):
        def is_decided(self, prove, candidate, votes):
            return answer(len(candidate))

    with pytest.raises(ValueError, match=r"a bool array of shape \(3,\)"):
        simulate(probabilities([0.3] * 3), Decides(), alpha=0.1)
