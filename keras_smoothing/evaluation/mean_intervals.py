import numpy as np
from scipy import optimize
from scipy import stats

# Number of bets that the capital is split over. More do not narrow intervals.
_BETS = 8

# Edges are searched no closer than this to an end of the range.
_LEAST = 1e-12


def mean_interval(values, low, high, confidence):
    """Computes an interval for the mean of any bounded distribution.

    A gambler bets against the mean m. Scaled to [0, 1], each value x multiplies
    the capital by `1 + bet * (x - m)`, which is not negative as long as the bet
    is at most 1 / m. If m is the true mean or above it, the expected capital
    is at most 1. Then, by Markov's inequality, the capital reaches
    2 / (1 - confidence) with a probability of at most (1 - confidence) / 2. The
    lower edge is the m where the capital reaches it; the upper edge is found
    likewise from 1 - x.

    The capital is split evenly over bets that are fixed beforehand, so the
    interval does not depend on the order of the values. The bets lie between
    1 / m and `sqrt(8 log(2 / (1 - confidence)) / n)`, the best bet at the
    largest variance, 1/4. Each factor falls as m rises, so the edge is unique.

    Args:
        values: float array, shape `(n,)`, drawn independently.
        low: float, the smallest possible value.
        high: float >= low, the largest possible value.
        confidence: float in (0, 1).

    Returns:
        (low, high): floats.

    Reference:
    - [Waudby-Smith and Ramdas, 2024](https://arxiv.org/abs/2010.09686)
    """
    if low == high:
        return float(low), float(high)
    shares, counts = np.unique(
        np.clip((values - low) / (high - low), 0, 1), return_counts=True
    )
    enough = np.log(2 / (1 - confidence))
    edges = (
        _lower_edge(shares, counts, enough),
        1 - _lower_edge(1 - shares, counts, enough),
    )
    return tuple(float(low + (high - low) * edge) for edge in edges)


def _lower_edge(shares, counts, enough):
    """Returns the mean at which the logarithm of the capital is `enough`."""
    n = counts.sum()
    timid, weights = np.sqrt(8 * enough / n), np.linspace(0, 1, _BETS)

    def excess(mean):
        bets = min(timid, 1 / mean) ** (1 - weights) * (1 / mean) ** weights
        gains = np.maximum(bets[:, np.newaxis] * (shares - mean), -1)
        with np.errstate(divide="ignore"):  # The largest bet may lose all.
            logs = np.log1p(gains) @ counts
        return np.logaddexp.reduce(logs) - np.log(_BETS) - enough

    # At the mean of the values the capital is at most 1, since the logarithm
    # is concave.
    mean = shares @ counts / n
    if mean <= _LEAST or excess(_LEAST) <= 0:
        return 0.0
    return optimize.brentq(excess, _LEAST, mean, xtol=_LEAST)


def paired_interval(only_a, only_b, examples, confidence):
    """Computes an interval for the difference of two paired shares.

    This is Tango's score interval: all differences that the score test of
    paired shares does not reject. Unlike the bootstrap and Wald's interval, it
    does not collapse if few or no examples distinguish the runs. At a
    difference of 0, its test statistic is McNemar's. Its coverage is
    approximate: at a confidence of 0.95, with 20 to 200 examples, it may fall
    to 0.93.

    Args:
        only_a: int, the number of examples counted by the first run alone.
        only_b: int, the number counted by the second run alone.
        examples: int, the number of all examples.
        confidence: float in (0, 1).

    Returns:
        (low, high): floats in [-1, 1], around
        `(only_a - only_b) / examples`.

    Reference:
    - [Tango, 1998](https://pubmed.ncbi.nlm.nih.gov/9595618/)
    """
    z = stats.norm.isf((1 - confidence) / 2)

    def score(difference):
        """Returns the test statistic, which falls from above z to below -z."""
        # The maximum likelihood share of only_b, given this difference.
        b = -only_a - only_b + (2 * examples - only_a + only_b) * difference
        c = -only_b * difference * (1 - difference)
        root = np.sqrt(max(0.0, b * b - 8 * examples * c))
        share = (root - b) / (4 * examples)
        variance = examples * (2 * share + difference * (1 - difference))
        return (only_a - only_b - examples * difference) / np.sqrt(
            max(variance, np.finfo(np.float64).tiny)
        )

    observed = (only_a - only_b) / examples
    low, high = -1.0, 1.0
    if observed > -1:
        low = optimize.brentq(lambda d: score(d) - z, -1.0, observed)
    if observed < 1:
        high = optimize.brentq(lambda d: score(d) + z, observed, 1.0)
    return float(low), float(high)
