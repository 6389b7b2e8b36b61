import numpy as np

from keras_smoothing.statistics.bounds import two_sided_binomial_test


def majority(votes, alpha):
    """The class that most draws vote for, and where that is no accident.

    Args:
        votes: `Votes`.
        alpha: float in (0, 1), probability of a wrong answer.

    Returns:
        int64 array, shape `(examples,)`, and a bool array of that shape.
    """
    answer = np.argmax(votes.counts, axis=1)
    second, first = np.sort(votes.counts, axis=1)[:, -2:].T
    # A vote that is not known may be the runner-up's.
    second = np.minimum(first, second + votes.unsettled)
    return answer, two_sided_binomial_test(first, second) <= alpha
