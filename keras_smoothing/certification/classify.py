import secrets

import numpy as np

from keras_smoothing import checks
from keras_smoothing.certification.plan import check_can_classify
from keras_smoothing.certification.sampling import warn_of_nan
from keras_smoothing.results import ABSTAIN
from keras_smoothing.statistics import FixedSampling
from keras_smoothing.statistics.bounds import two_sided_binomial_test
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import draws

# Draws that choose a class, as in `certify`.
_N0 = 100


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
    claim = counter.claim(alpha, FixedSampling(n))
    check_can_classify(n, alpha)
    examples, num_classes = request.open(counter, min(WINDOW, batch_size))
    counter = counter.tuned(examples.first, claim)
    labels = []
    for x, _ in examples.windows(num_classes):

        def count(stream, stop, x=x):
            return counter.count(
                x,
                seed=seed,
                stream=stream,
                start=0,
                stop=stop,
                batch_size=batch_size,
            )

        votes = count(draws.PREDICTION, n)
        if counter.finds_own_votes:
            answer = np.argmax(votes.counts, axis=1)
            second, first = np.sort(votes.counts, axis=1)[:, -2:].T
            # A vote that is not known may be the runner-up's.
            second = np.minimum(first, second + votes.unsettled)
            decided = two_sided_binomial_test(first, second) <= alpha
        else:
            # Other draws choose the class of which the majority is proved.
            answer = np.argmax(count(draws.SELECTION, _N0).counts, axis=1)
            decided = claim.prove(votes, answer)[1] > 0
        decided &= ~warn_of_nan(votes.nan_draws, len(labels))
        labels.extend(np.where(decided, answer, ABSTAIN))
    return np.array(labels, np.int64)
