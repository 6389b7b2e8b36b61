import secrets

import numpy as np

from keras_smoothing import checks
from keras_smoothing.certification.plan import check_can_classify
from keras_smoothing.certification.sampling import warn_of_nan
from keras_smoothing.results import ABSTAIN
from keras_smoothing.statistics.bounds import two_sided_binomial_test
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import draws


def classify(counter, request, *, n, alpha, batch_size, seed):
    """Predictions that may abstain. See `SmoothedModel.classify`.

    Args:
        counter: `Counter`.
        request: `Request`.
        n: int, draws for each example.
        alpha: float in (0, 1).
        batch_size: int, noisy copies in one forward pass.
        seed: int or None.

    Returns:
        int64 array, shape `(examples,)`.
    """
    n = checks.positive_int("n", n)
    alpha = checks.probability("alpha", alpha)
    batch_size = checks.positive_int("batch_size", batch_size)
    seed = secrets.randbits(63) if seed is None else checks.seed(seed)
    check_can_classify(n, alpha)
    examples, num_classes = request.open(counter, min(WINDOW, batch_size))
    labels = []
    for x, _ in examples.windows(num_classes):
        votes = counter.count(
            x,
            seed=seed,
            stream=draws.PREDICTION,
            start=0,
            stop=n,
            batch_size=batch_size,
        )
        second, first = np.sort(votes.counts, axis=1)[:, -2:].T
        decided = two_sided_binomial_test(first, second) <= alpha
        decided &= ~warn_of_nan(votes.nan_draws, len(labels))
        answer = np.argmax(votes.counts, axis=1)
        labels.extend(np.where(decided, answer, ABSTAIN))
    return np.array(labels, np.int64)
