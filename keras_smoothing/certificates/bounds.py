"""Statistics of votes, in float64 on the host."""

import numpy as np
from scipy import stats

from . import checks


def lower_confidence_bound(successes, trials, alpha):
    """One-sided Clopper-Pearson lower bound on a binomial proportion.

    The bound `p` satisfies `P(p <= true proportion) >= 1 - alpha` for every
    true proportion, so a certificate built on it fails with probability at
    most `alpha`.

    Args:
        successes: int or int array, shape `(...)`: votes for the class.
        trials: int or int array, broadcastable with `successes`.
        alpha: float or float array in (0, 1), broadcastable too: the failure
            probability of each bound.

    Returns:
        float64 array, shape `(...)`; 0 where `successes` is 0.

    Raises:
        ValueError: unless 0 <= `successes` <= `trials` and 1 <= `trials`.

    Reference:
    - [Clopper and Pearson, 1934](https://doi.org/10.1093/biomet/26.4.404)
    """
    alpha = checks.probabilities("alpha", alpha)
    k, n = np.broadcast_arrays(successes, trials)
    if not (np.all(0 <= k) and np.all(k <= n) and np.all(n >= 1)):
        raise ValueError(
            "Expected 0 <= successes <= trials and trials >= 1. Received: "
            f"successes={successes}, trials={trials}"
        )
    # Where k is 0 the quantile is undefined and the bound is 0.
    bound = stats.beta.ppf(alpha, np.maximum(k, 1), n - np.maximum(k, 1) + 1)
    # Nothing is proved certain, even where the quantile rounds to 1.
    return np.where(k > 0, np.minimum(bound, np.nextafter(1.0, 0.0)), 0.0)


def upper_confidence_bound(successes, trials, alpha):
    """One-sided Clopper-Pearson upper bound on a binomial proportion.

    Arguments and errors are as in `lower_confidence_bound`.

    Returns:
        float64 array, shape `(...)`; 1 where `successes` is `trials`.
    """
    failures = np.subtract(trials, successes)
    return 1 - lower_confidence_bound(failures, trials, alpha)


def hypergeometric_upper_bound(found, drawn, total, alpha):
    """Upper bound on the marked items among `total`, from a random sample.

    The sample is drawn without replacement. The bound is the largest number M
    of marked items under which it is not too improbable to find at most
    `found` of them: M = max{M : P(X <= found) >= alpha} for X hypergeometric.
    The bound is below the true number with probability at most `alpha`, however
    the items came to be marked: only the choice of the sample is random.

    Args:
        found: int or int array, shape `(...)`: marked items in the sample.
        drawn: int or int array, broadcastable: items in the sample.
        total: int or int array, broadcastable: all items.
        alpha: float or float array in (0, 1), broadcastable.

    Returns:
        int64 array, shape `(...)`; `total` where nothing was drawn.

    Raises:
        ValueError: unless 0 <= `found` <= `drawn` <= `total`.
    """
    alpha = checks.probabilities("alpha", alpha)
    found, drawn, total, alpha = np.broadcast_arrays(found, drawn, total, alpha)
    if not np.all((0 <= found) & (found <= drawn) & (drawn <= total)):
        raise ValueError(
            "Expected 0 <= found <= drawn <= total. Received: "
            f"found={found}, drawn={drawn}, total={total}"
        )
    # All items that were not drawn may be marked. The larger M is, the less
    # probable is so small a `found`.
    low, high = found.astype(np.int64), total - (drawn - found)
    while np.any(low < high):
        middle = (low + high + 1) // 2
        plausible = stats.hypergeom.cdf(found, total, middle, drawn) >= alpha
        low = np.where(plausible, middle, low)
        high = np.where(plausible, high, middle - 1)
    return low


def upper_rank(n, p, level):
    """Rank of an order statistic that is not below a quantile, with confidence.

    Among `n` independent draws, the number below the quantile is at most
    binomial with probability `p`. The k-th smallest draw is below the quantile
    only if k draws are, which has probability at most P(Bin(n, p) >= k).

    Args:
        n: int >= 1, or int array that broadcasts with `p`: draws.
        p: float or float array, shape `(...)`, in [0, 1].
        level: float in (0, 1), the probability of being below.

    Returns:
        int64 array, shape `(...)`: the smallest k >= 1 for which that
        probability is at most `level`; n + 1 where not even the largest draw
        is enough.
    """
    p = np.asarray(p, np.float64)
    low, high = np.ones(p.shape, np.int64), np.full(p.shape, n + 1)
    while np.any(low < high):
        middle = (low + high) // 2
        enough = stats.binom.sf(middle - 1, n, p) <= level
        low = np.where(enough, low, middle + 1)
        high = np.where(enough, middle, high)
    return low


def two_sided_binomial_test(first, second):
    """p-value of `first` against `second` votes under equal probability.

    This exact test decides a prediction. It is
    `scipy.stats.binomtest(first, first + second, 0.5).pvalue` for arrays.

    Args:
        first: int array, shape `(...)`: votes for the most voted class.
        second: int array, shape `(...)`: votes for the runner-up, at most
            `first`.

    Returns:
        float64 array, shape `(...)`; 1 where there are no votes.
    """
    first, second = np.asarray(first), np.asarray(second)
    # At 1/2 the distribution is symmetric: both tails are equal.
    tail = stats.binom.sf(first - 1, first + second, 0.5)
    return np.minimum(1.0, 2 * tail)


def largest_p_lower(n, alpha):
    """The bound that `n` unanimous votes give: `alpha ** (1 / n)`."""
    return float(lower_confidence_bound(n, n, alpha))


def around_given(radius, rounding):
    """Converts radii around rounded inputs to radii around the inputs given.

    Args:
        radius: float64 array, shape `(...)`, >= 0, around rounded inputs.
        rounding: float or float64 array, broadcastable: the distance between
            the rounded inputs and those given.

    Returns:
        float64 array, shape `(...)`: the rest of the radius, rounded down; 0
        where the radius does not reach the given input; the radius itself where
        nothing was rounded.
    """
    left = np.nextafter(radius - rounding, -np.inf)
    return np.where(np.equal(rounding, 0), radius, np.maximum(left, 0.0))
