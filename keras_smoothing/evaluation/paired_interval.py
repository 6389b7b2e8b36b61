import numpy as np
from scipy import optimize
from scipy import stats


def paired_interval(only_a, only_b, examples, confidence):
    """Interval for the difference of two shares of the same examples.

    Tango's score interval: all differences that the score test of paired
    shares does not reject. It does not collapse where few examples, or none,
    tell the runs apart, as the bootstrap and Wald's interval do, and
    McNemar's statistic is its test at a difference of 0. Its coverage is
    approximate: of a confidence of 0.95, 20 to 200 examples leave 0.93.

    Args:
        only_a: int, examples counted by the first run alone.
        only_b: int, by the second alone.
        examples: int, in all.
        confidence: float in (0, 1).

    Returns:
        (low, high): floats in [-1, 1], around
        `(only_a - only_b) / examples`.

    Reference:
    - [Tango, 1998](https://pubmed.ncbi.nlm.nih.gov/9595618/)
    """
    z = stats.norm.isf((1 - confidence) / 2)

    def score(difference):
        """The test's statistic, falling from above z to below -z."""
        # The likeliest share of only_b, if the difference were this one.
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
