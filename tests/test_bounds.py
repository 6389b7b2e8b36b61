import numpy as np
import pytest
from scipy import stats

from keras_smoothing.certificates import bounds


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_lower_bound_equals_scipys_exact_interval(alpha):
    successes = np.array([1, 7, 50, 99, 100])
    expected = [
        stats.binomtest(int(k), 100, alternative="greater")
        .proportion_ci(1 - alpha, method="exact")
        .low
        for k in successes
    ]
    bound = bounds.lower_confidence_bound(successes, 100, alpha)
    np.testing.assert_allclose(bound, expected, rtol=1e-9)
    assert bound.dtype == np.float64


def test_lower_bound_of_no_and_of_all_successes():
    assert bounds.lower_confidence_bound(0, 100, 0.001) == 0
    bound = bounds.lower_confidence_bound(100_000, 100_000, 0.001)
    np.testing.assert_allclose(bound, 0.001 ** (1 / 100_000), rtol=1e-12)


def test_no_bound_is_certainty():
    bound = bounds.lower_confidence_bound(100_000, 100_000, 1 - 1e-12)
    assert bound < 1
    assert bounds.upper_confidence_bound(0, 100_000, 1 - 1e-12) > 0


def test_upper_bound_mirrors_the_lower_one():
    k = np.array([0, 3, 50, 100])
    expected = [
        stats.binomtest(int(v), 100, alternative="less")
        .proportion_ci(0.99, method="exact")
        .high
        for v in k
    ]
    np.testing.assert_allclose(
        bounds.upper_confidence_bound(k, 100, 0.01), expected, rtol=1e-9
    )


def test_bounds_take_an_alpha_for_each():
    alphas = np.array([0.1, 0.01, 1e-6])
    together = bounds.lower_confidence_bound(90, 100, alphas)
    alone = [bounds.lower_confidence_bound(90, 100, a) for a in alphas]
    np.testing.assert_array_equal(together, alone)
    with pytest.raises(ValueError, match="between 0 and 1"):
        bounds.lower_confidence_bound(90, 100, np.array([0.1, 1.0]))


@pytest.mark.parametrize("p", [0.5, 0.9, 0.999])
def test_lower_bound_covers_every_proportion(p):
    # The probability of failure, summed over all outcomes instead of sampled.
    outcomes = np.arange(201)
    bound = bounds.lower_confidence_bound(outcomes, 200, 0.05)
    failure = stats.binom.pmf(outcomes, 200, p)[bound > p].sum()
    assert failure <= 0.05


@pytest.mark.parametrize("successes,trials", [(-1, 5), (6, 5), (0, 0)])
def test_lower_bound_rejects_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match="Expected 0 <= successes <= trials"):
        bounds.lower_confidence_bound(successes, trials, 0.05)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, float("nan"), "a"])
def test_alpha_outside_the_unit_interval_is_rejected(alpha):
    with pytest.raises(ValueError, match="between 0 and 1"):
        bounds.lower_confidence_bound(5, 10, alpha)


def test_two_sided_test_equals_scipys_binomial_test():
    first, second = np.triu_indices(40)[::-1]
    expected = [
        stats.binomtest(int(a), int(a + b), 0.5).pvalue if a + b else 1.0
        for a, b in zip(first, second, strict=True)
    ]
    p_values = bounds.two_sided_binomial_test(first, second)
    np.testing.assert_allclose(p_values, expected, rtol=1e-9)
