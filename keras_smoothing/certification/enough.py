"""Whether so many draws can prove anything. NumPy and SciPy only."""

import math

from keras_smoothing.statistics.bounds import largest_p_lower
from keras_smoothing.warn_caller import warn_caller


def check_can_certify(claim, num_classes):
    """Raises where a claim can be proved of nothing, warns where of little.

    Args:
        claim: `Statement`.
        num_classes: int, classes of the model.

    Raises:
        ValueError: if no radius formula is known for the noise, if there are
            no more than `top_k` classes, or if even unanimous votes prove
            nothing.
    """
    if claim.top_k >= num_classes:
        raise ValueError(
            f"Expected `top_k` below the model's {num_classes} classes. "
            f"Received: top_k={claim.top_k}"
        )
    n = claim.stopping.max_n
    level = float(claim.alpha * claim.stopping.share(n))
    largest = claim.largest_radius(n, num_classes)
    if not largest:
        _check_enough(n, claim.smallest_n(level, num_classes), claim.alpha)
        raise ValueError(
            f"Expected more audits of n={n} draws at alpha={claim.alpha}: with "
            "so few every example abstains, even when all votes agree. "
            f"Received: num_audited={claim.num_audited}"
        )
    if largest_p_lower(n, level) < 0.84:  # About Phi(1): one sigma.
        warn_caller(
            f"n={n} draws at alpha={claim.alpha} certify no {claim.noise.norm} "
            f"radius above {largest:.3g}, even when all votes agree. See "
            "keras_smoothing.plan.",
        )


def check_can_classify(n, alpha):
    """Raises where even unanimous votes leave a prediction undecided.

    Raises:
        ValueError: as said.
    """
    # The two-sided test gives unanimous votes the p-value 2 * 2^-n.
    _check_enough(n, math.ceil(math.log2(2 / alpha)), alpha)


def _check_enough(n, smallest, alpha):
    if n < smallest:
        raise ValueError(
            f"Expected n >= {smallest} at alpha={alpha}: with fewer "
            "draws every example abstains, even when all votes agree. "
            f"Received: n={n}"
        )
