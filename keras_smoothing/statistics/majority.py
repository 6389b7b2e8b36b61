import numpy as np

from keras_smoothing.statistics.bounds import two_sided_binomial_test


def majority(votes, alpha):
    """The class that most draws vote for, and where that is no accident.

    Args:
        votes: `Votes`.
        alpha: float in (0, 1), probability of a wrong answer; or a float64
            array, shape `(examples,)`, of that of each.

    Returns:
        int64 array, shape `(examples,)` or `(examples, *components)`, and a
        bool array of that shape.
    """
    answer = np.argmax(votes.counts, axis=-1)
    ordered = np.sort(votes.counts, axis=-1)
    second, first = ordered[..., -2], ordered[..., -1]
    # A vote that is not known may be the runner-up's.
    unsettled = votes.by_component(votes.unsettled)
    second = np.minimum(first, second + unsettled)
    return answer, two_sided_binomial_test(first, second) <= alpha
