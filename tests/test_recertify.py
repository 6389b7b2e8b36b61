"""Certificates at another alpha than that at which the draws were stopped."""

import numpy as np
import pytest
from scipy import optimize
from scipy import stats
from test_stopping import NOISE
from test_stopping import Hostile
from test_stopping import probabilities
from test_stopping import simulate

import keras_smoothing as ks
from keras_smoothing.certification.sampling import estimate
from keras_smoothing.statistics import Claim
from keras_smoothing.statistics import Votes

RUNS = 20_000


def certify(draw, runs, claim):
    """Certificates of class 0 from votes that `draw` gives."""
    candidate = np.zeros(runs, np.int64)
    votes = estimate(draw, candidate, claim, np.ones(runs))
    return ks.CertificationResult.from_counts(
        candidate,
        votes.counts,
        votes.num_samples,
        claim,
        label=candidate,
        time=np.zeros(runs),
    )


@pytest.mark.parametrize("alpha,other", [(0.1, 0.02), (0.02, 0.1)])
@pytest.mark.parametrize("radius", [0.01, 0.8, 1.2])
def test_violations_stay_within_the_alpha_recertified(alpha, other, radius):
    p = np.full(RUNS, probabilities(radius))
    result = simulate(p, Hostile(radius, max_n=5_000), alpha, seed=2)
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


@pytest.mark.parametrize("p", [(0.4, 0.3, 0.3), (0.6, 0.35, 0.05)])
def test_top_k_violations_stay_within_the_alpha_recertified(p):
    alpha, other = 0.1, 0.02
    rng = np.random.default_rng(3)
    radius = top_2_radius(p)

    def draw(which, start, stop):
        counts = rng.multinomial(stop - start, p, len(which))
        return Votes(counts, np.full(len(which), stop - start))

    stopping = Hostile(radius, max_n=1_000)
    result = certify(draw, RUNS, Claim(NOISE, alpha, stopping, top_k=2))
    violations = np.sum(result.recertify(other).radius > radius)
    assert violations <= stats.binom.ppf(0.999, RUNS, other)


def test_accuracy_with_confidence_holds_after_adaptive_stopping():
    # Pairs of examples share each draw: it misses one of them at most. So they
    # fail apart, which is the worst case for a bound over both.
    radius, runs, confidence = 0.02, 5_000, 0.8
    p = probabilities(radius)
    rng = np.random.default_rng(4)

    def draw(which, start, stop):
        n = stop - start
        first, second, _ = rng.multinomial(n, (1 - p, 1 - p, 2 * p - 1), runs).T
        votes = n - np.stack([first, second], axis=1).ravel()[which]
        counts = np.stack([votes, n - votes], axis=1)
        return Votes(counts, np.full(len(which), n))

    claim = Claim(NOISE, 0.4, Hostile(radius, max_n=5_000))
    result = certify(draw, 2 * runs, claim)
    # The true share beyond the true radius is 0.
    beyond = np.nextafter(radius, 9)
    failures = sum(
        pair.certified_accuracy(beyond, confidence) > 0
        for pair in (result[2 * i : 2 * i + 2] for i in range(runs))
    )
    assert 0 < failures <= stats.binom.ppf(0.999, runs, 1 - confidence)
