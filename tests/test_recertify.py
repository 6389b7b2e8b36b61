"""Certificates at another alpha than that at which the draws were stopped."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize
from scipy import stats
from test_stopping import NOISE
from test_stopping import probabilities

import keras_smoothing as ks
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes
from keras_smoothing.certify.classification import draw_until_decided

RUNS = 20_000

# At which the votes are drawn.
ALPHA = 0.1


class Hostile(ks.AdaptiveSampling):
    """Stops as soon as the radius at some alpha exceeds the true one."""

    def __init__(self, true_radius, alpha, max_n, top_k=1):
        super().__init__([0.0], max_n=max_n)
        self.true_radius = true_radius
        self.alpha = alpha
        self.top_k = top_k

    def is_decided(self, prove, candidate, votes):
        result = to_result(candidate, votes, self)
        return result.recertify(self.alpha).radius > self.true_radius


def to_result(candidate, votes, rule):
    return ks.CertificationResult.from_counts(
        candidate,
        votes.counts,
        votes.num_samples,
        Claim(NOISE, ALPHA, rule, rule.top_k),
        label=candidate,
        time=np.zeros(len(candidate)),
    )


def certify(draw, runs, rule):
    """Certificates of class 0 from votes that `draw` gives."""
    candidate = np.zeros(runs, np.int64)
    claim = Claim(NOISE, ALPHA, rule, rule.top_k)
    return to_result(
        candidate,
        draw_until_decided(draw, candidate, claim, np.ones(runs)),
        rule,
    )


def multinomial(p, seed):
    """Draws for examples whose classes have the probabilities `p`."""
    rng = np.random.default_rng(seed)

    def draw(which, start, stop):
        counts = rng.multinomial(stop - start, p, len(which))
        return Votes(counts, np.full(len(which), stop - start))

    return draw


# Stopped at the alpha of the draws, or at the other one, seen in advance.
ALPHAS = [(ALPHA, 0.02), (0.02, 0.02), (ALPHA, 0.3), (0.3, 0.3)]


@pytest.mark.parametrize("stopped_at,other", ALPHAS)
@pytest.mark.parametrize("radius", [0.01, 0.25, 0.8, 1.2])
def test_violations_stay_within_the_alpha_recertified(
    stopped_at, other, radius
):
    p = float(probabilities(radius))
    rule = Hostile(radius, stopped_at, max_n=5_000)
    result = certify(multinomial((p, 1 - p), seed=2), RUNS, rule)
    violations = np.sum(result.recertify(other).radius > radius)
    assert 0 < violations <= stats.binom.ppf(0.999, RUNS, other)


def top_2_radius(p):
    """Where a class of probability p[0] may fall behind both rivals."""
    z, (first, *rivals) = stats.norm, p
    # Behind the weaker rival, or behind the mean of both: one of them must be
    # possible at each distance that is not certified.
    weaker = (z.ppf(first) - z.ppf(min(rivals))) / 2
    both = optimize.brentq(
        lambda d: z.cdf(z.ppf(first) - d) - z.cdf(z.ppf(sum(rivals)) + d) / 2,
        0,
        5,
    )
    return NOISE.sigma * max(weaker, both)


@pytest.mark.parametrize("stopped_at", [ALPHA, 0.02])
def test_top_k_violations_stay_within_the_alpha_recertified(stopped_at):
    p = (0.4, 0.3, 0.3)
    radius = top_2_radius(p)
    rule = Hostile(radius, stopped_at, max_n=5_000, top_k=2)
    result = certify(multinomial(p, seed=3), RUNS, rule)
    violations = np.sum(result.recertify(0.02).radius > radius)
    assert 0 < violations <= stats.binom.ppf(0.999, RUNS, 0.02)


def test_accuracy_with_confidence_holds_after_adaptive_stopping():
    # Four examples share each draw: it misses one of them at most. So they
    # fail apart, which is the worst case for a bound over all.
    p, runs, confidence = 0.76, 4_000, 0.8
    radius = float(NOISE.radius(p))
    rng = np.random.default_rng(4)

    def draw(which, start, stop):
        n = stop - start
        cells = rng.multinomial(n, [1 - p] * 4 + [4 * p - 3], runs)
        misses = cells[:, :4].ravel()[which]
        counts = np.stack([n - misses, misses], axis=1)
        return Votes(counts, np.full(len(which), n))

    # Each of them is certified at a quarter of what the confidence leaves.
    rule = Hostile(radius, (1 - confidence) / 4, max_n=5_000)
    result = certify(draw, 4 * runs, rule)
    # The true share beyond the true radius is 0.
    beyond = np.nextafter(radius, 9)
    # Each four is a test set of its own.
    fours = (result[4 * i : 4 * i + 4] for i in range(runs))
    failures = sum(
        dataclasses.replace(four, family=None).certified_accuracy(
            beyond, confidence
        )
        > 0
        for four in fours
    )
    assert 0 < failures <= stats.binom.ppf(0.999, runs, 1 - confidence)
