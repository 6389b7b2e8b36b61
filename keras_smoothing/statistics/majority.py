import numpy as np

from keras_smoothing.statistics.bounds import two_sided_binomial_test
from keras_smoothing.statistics.bounds import upper_rank

# Of alpha, for what draws around another point may do. Most often that is one
# vote or none, whatever the share, while the test needs its own.
_SHARE = 0.01


def majority(votes, alpha, changed=0.0):
    """The class that most draws vote for, and where that is no accident.

    Draws around another point than the one that is asked about differ from
    those around that one with some probability each. But for a share of alpha,
    no more than a binomial quantile of them do. So many votes are taken from
    the winner and given to the runner-up; the test has the rest of alpha.

    Args:
        votes: `Votes`.
        alpha: float in (0, 1), probability of a wrong answer; or a float64
            array, shape `(examples,)`, of that of each.
        changed: float or float64 array, shape `(examples,)`: the probability
            with which a draw would be another at the point asked about.

    Returns:
        int64 array, shape `(examples,)` or `(examples, *components)`, and a
        bool array of that shape.
    """
    answer = np.argmax(votes.counts, axis=-1)
    ordered = np.sort(votes.counts, axis=-1)
    second, first = ordered[..., -2], ordered[..., -1]
    changed = np.broadcast_to(changed, votes.num_samples.shape)
    level = np.where(changed > 0, (1 - _SHARE) * alpha, alpha)
    moved = upper_rank(votes.num_samples, changed, _SHARE * alpha) - 1
    first = np.maximum(0, first - votes.by_component(moved))
    # A vote that is not known may be the runner-up's.
    unsettled = votes.by_component(votes.unsettled + moved)
    second = np.minimum(first, second + unsettled)
    p_value = two_sided_binomial_test(first, second)
    return answer, p_value <= votes.by_component(level)
