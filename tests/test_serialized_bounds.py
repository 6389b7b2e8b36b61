"""What audited votes prove, on simulated mistakes of every kind."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates import AuditedClaim
from keras_smoothing.certificates import Votes
from keras_smoothing.certificates.bounds import hypergeometric_upper_bound
from keras_smoothing.certificates.bounds import lower_confidence_bound

NOISE = ks.noise.Gaussian(0.5)
N, AUDITED, ALPHA = 10_000, 400, 0.001
CLAIM = AuditedClaim(NOISE, ALPHA, ks.FixedSampling(N), audit_share=AUDITED / N)


def test_the_bound_is_the_inverse_of_the_hypergeometric_law():
    rng = np.random.default_rng(0)
    for _ in range(200):
        total = int(rng.integers(1, 300))
        drawn = int(rng.integers(0, total + 1))
        found = int(rng.integers(0, drawn + 1))
        alpha = float(rng.choice([0.2, 0.05, 0.001]))
        marked = np.arange(found, total - drawn + found + 1)
        plausible = stats.hypergeom.cdf(found, total, marked, drawn) >= alpha
        bound = hypergeometric_upper_bound(found, drawn, total, alpha)
        assert bound == marked[plausible].max()


@pytest.mark.parametrize("alpha", [0.1, 0.01])
def test_the_bound_fails_at_most_alpha_of_the_time(alpha):
    rng = np.random.default_rng(1)
    runs, total, drawn = 20_000, 5_000, 300
    for marked in (0, 3, 40, 700, 4_000):
        found = rng.hypergeometric(marked, total - marked, drawn, runs)
        values, times = np.unique(found, return_counts=True)
        bound = hypergeometric_upper_bound(values, drawn, total, alpha)
        failures = np.sum(times[bound < marked])
        assert failures <= stats.binom.ppf(0.999, runs, alpha)


def test_bad_counts_are_refused():
    for counts in ((-1, 5, 9), (6, 5, 9), (1, 5, 4)):
        with pytest.raises(ValueError, match="0 <= found <= drawn <= total"):
            hypergeometric_upper_bound(*counts, 0.1)


def independent(rng, own, rate):
    """Votes of the shortcut, which errs on each draw by itself."""
    return np.where(rng.random(own.shape) < rate, own, 1 - own)


def in_runs(rng, own, rate):
    """Mistakes that go on along a chain of warm starts, for 50 draws."""
    starts = rng.random((own.shape[0], own.shape[1] // 50)) >= rate
    return np.where(np.repeat(starts, 50, axis=1), 1 - own, own)


def for_the_candidate(rng, own, rate):
    """Mistakes that all turn votes for others into votes for the candidate.

    As many as the independent ones: a share 1 - rate of all draws.
    """
    others = own == 1
    share = (1 - rate) / np.maximum(others.mean(axis=1, keepdims=True), 1e-9)
    wrong = others & (rng.random(own.shape) < share)
    return np.where(wrong, 0, own)


def simulate(p, rate, mistakes, runs, seed=0):
    """Votes of shortcut and network, and what the audit finds of them.

    Class 0 is the candidate; the network votes for it with probability p.
    """
    rng = np.random.default_rng(seed)
    counts, audited, disagreed = (np.zeros((runs, 2), int) for _ in range(3))
    for some in np.array_split(np.arange(runs), max(1, runs // 200)):
        own = (rng.random((len(some), N)) >= p).astype(int)
        votes = mistakes(rng, own, rate)
        coins = rng.random(own.shape) < AUDITED / N
        for c in (0, 1):
            is_c = votes == c
            counts[some, c] = is_c.sum(axis=1)
            audited[some, c] = (is_c & coins).sum(axis=1)
            wrong = is_c & coins & (own != c)
            disagreed[some, c] = wrong.sum(axis=1)
    findings = {"audited": audited, "disagreed": disagreed}
    return Votes(counts, counts.sum(axis=1), findings)


def released(votes):
    """The bound of the code released with the paper: both counts are scaled."""
    audited, disagreed = (
        votes.findings[name][:, 0] for name in ("audited", "disagreed")
    )
    share = lower_confidence_bound(audited - disagreed, audited, ALPHA / 2)
    scaled = (share * votes.counts[:, 0]).astype(int)
    trials = np.maximum((share * votes.num_samples).astype(int), 1)
    p_lower = lower_confidence_bound(
        np.minimum(scaled, trials), trials, ALPHA / 2
    )
    return NOISE.radius(p_lower) * (p_lower > 0.5)


CASES = [(0.60, 0.90), (0.88, 0.90), (0.45, 0.55)]


@pytest.mark.parametrize("p,rate", CASES)
@pytest.mark.parametrize("mistakes", [independent, in_runs, for_the_candidate])
def test_audited_radii_hold_whatever_the_mistakes(p, rate, mistakes):
    runs = 1_000
    votes = simulate(p, rate, mistakes, runs)
    true = float(NOISE.radius(p)) if p > 0.5 else 0.0
    _, radius = CLAIM.prove(votes, np.zeros(runs, int))
    violations = np.sum(radius > true)
    assert violations <= stats.binom.ppf(0.999, runs, ALPHA)
    if p < 0.5:
        assert (radius == 0).all()


@pytest.mark.parametrize("p,rate", CASES)
def test_the_released_bound_fails_the_same_test(p, rate):
    # Independent mistakes fail in favour of the candidate only where there are
    # many votes for others; those of the worst kind always do.
    runs = 200
    votes = simulate(p, rate, for_the_candidate, runs)
    true = float(NOISE.radius(p)) if p > 0.5 else 0.0
    assert np.mean(released(votes) > true) > 0.5


def test_radii_are_the_more_the_fewer_the_mistakes():
    votes = simulate(0.88, 1.0, independent, 50)
    candidate = np.zeros(50, int)
    _, right = CLAIM.prove(votes, candidate)
    _, some = CLAIM.prove(simulate(0.88, 0.95, independent, 50), candidate)
    assert np.median(some) < np.median(right) < NOISE.radius(0.88)
    assert np.median(some) > 0.3
    # Without a mistake, audits still cap the radius: at 1.98 sigma here.
    _, most = CLAIM.prove(CLAIM.unanimous(N, 2), np.array([0]))
    assert 1.9 * NOISE.sigma < most[0] < 2.0 * NOISE.sigma


def test_nothing_audited_proves_nothing():
    votes = simulate(0.99, 1.0, independent, 5)
    none = {name: 0 * f for name, f in votes.findings.items()}
    votes = dataclasses.replace(votes, findings=none)
    p_lower, radius = CLAIM.prove(votes, np.zeros(5, int))
    assert (p_lower == 0).all() and (radius == 0).all()


def test_more_than_one_class_is_refused():
    with pytest.raises(ValueError, match="Expected top_k=1 with audited"):
        dataclasses.replace(CLAIM, top_k=2)
