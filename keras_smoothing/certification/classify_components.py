import math
import secrets

import numpy as np

from keras_smoothing import checks
from keras_smoothing.certification.component_sampling import parts
from keras_smoothing.certification.enough import check_enough
from keras_smoothing.certification.enough import smallest_n_to_classify
from keras_smoothing.certification.same_weights import check_same_weights
from keras_smoothing.certification.warn_of_nan import warn_of_nan
from keras_smoothing.logs import fingerprint
from keras_smoothing.statistics.majority import majority
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.statistics.votes import ABSTAIN
from keras_smoothing.voting import tiles


def classify_components(
    counter, request, *, n, alpha, correction, batch_size, seed
):
    """Predictions that may abstain. See `SmoothedSegmentation.classify`.

    Holm's procedure is for hypotheses that are chosen before the draws that
    test them. Here the same draws say which class is tested, and at levels
    that depend on other tests more than alpha may be wrong.

    Args:
        counter: `ComponentCounter`.
        request: `Request`.
        n: int, draws for each example.
        alpha: float in (0, 1).
        correction: "bonferroni" or None.
        batch_size: int, noisy copies in one forward pass.
        seed: int or None.

    Returns:
        int64 array, shape `(examples, *components)`.
    """
    n = checks.num_draws("n", n)
    alpha = checks.probability("alpha", alpha)
    checks.one_of("correction", correction, ("bonferroni", None))
    batch_size = checks.positive_int("batch_size", batch_size)
    seed = secrets.randbits(63) if seed is None else checks.seed(seed)
    examples, answers, batch_size = request.open(
        counter, window=WINDOW, draws=n, batch_size=batch_size
    )
    components = 1 if correction is None else math.prod(answers[:-1])
    level = alpha / components
    check_enough(n, smallest_n_to_classify(level), f"{alpha} / {components}")
    model = fingerprint(counter.base_model)
    labels, seen = [], 0
    for x, _, rounding in examples.windows(answers):
        for some, moved in parts(counter, x, rounding):
            votes = counter.count(
                some,
                seed=seed,
                stream=tiles.PREDICTION,
                start=0,
                stop=n,
                batch_size=batch_size,
            )
            changed = counter.noise.total_variation(moved)
            answer, decided = majority(votes, level, changed)
            index = seen + np.arange(len(some))
            seen += len(some)
            decided &= ~warn_of_nan(votes.nan_draws, index)
            decided &= ~counter.padding(some)
            labels.append(np.where(decided, answer, ABSTAIN))
    check_same_weights(counter.base_model, model)
    return np.concatenate(labels)
