import functools
import secrets

import numpy as np

from keras_smoothing import checks
from keras_smoothing.certification import promising
from keras_smoothing.certification import scales
from keras_smoothing.certification.enough import check_can_classify
from keras_smoothing.certification.evidence import warn_of_evidence
from keras_smoothing.certification.same_weights import check_same_weights
from keras_smoothing.certification.warn_of_nan import warn_of_nan
from keras_smoothing.logs import fingerprint
from keras_smoothing.statistics import FixedSampling
from keras_smoothing.statistics.majority import majority
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.statistics.votes import ABSTAIN
from keras_smoothing.voting import tiles

# Draws that choose a class, as in `certify`.
_N0 = 100


def classify(
    counter,
    request,
    *,
    n,
    alpha,
    batch_size,
    seed,
    searcher=None,
    memory=None,
):
    """Predictions that may abstain. See `SmoothedModel.classify`.

    Args:
        counter: `Counter`.
        request: `Request`.
        n: int, draws for each example.
        alpha: float in (0, 1).
        batch_size: int, noisy copies in one forward pass.
        seed: int or None.
        searcher: `Searcher` for the noise of each example, or None.
        memory: `CertificationMemory` or None.

    Returns:
        int64 array, shape `(examples,)`.
    """
    n = checks.num_draws("n", n)
    alpha = checks.probability("alpha", alpha)
    batch_size = checks.positive_int("batch_size", batch_size)
    seed = secrets.randbits(63) if seed is None else checks.seed(seed)
    claim = counter.claim(alpha, FixedSampling(n))
    check_can_classify(n, alpha)
    examples, num_classes, batch_size = request.open(
        counter,
        window=WINDOW,
        draws=n,
        batch_size=batch_size,
        searcher=searcher,
    )
    model = fingerprint(counter.base_model)
    if memory is not None:
        promising.bind(memory, model, counter, examples.first.shape[1:])
    elif searcher is not None:
        warn_of_evidence()
    counter = counter.tuned(examples.first, claim)
    decide = functools.partial(
        _decide,
        counter,
        model=model,
        claim=claim,
        searcher=searcher,
        has_memory=memory is not None,
        seed=seed,
        batch_size=batch_size,
    )
    labels = []
    first = 0 if memory is None else len(memory)
    for x, _, rounding in examples.windows(num_classes):
        index = len(labels) + np.arange(len(x))
        if memory is None:
            answers, _ = decide(x, index, rounding, alpha)
        else:
            answers = promising.classify_new(
                memory, decide, x, index, rounding, claim, first
            )
        labels.extend(answers)
    return np.array(labels, np.int64)


def _decide(
    counter,
    x,
    index,
    rounding,
    alpha,
    *,
    model,
    claim,
    searcher,
    has_memory,
    seed,
    batch_size,
):
    """The class that votes decide for each example, or `ABSTAIN`; its scale.

    Args:
        counter: as in `classify`.
        x: float32 array, shape `(examples, ...)`.
        index: int array, shape `(examples,)`, their numbers in the call.
        rounding: float64 array, shape `(examples,)`, as of `Window`.
        alpha: float, or float64 array, shape `(examples,)`.
        model: str, the fingerprint that the base model has to have still.
        claim: `Claim`, of the number of draws.
        searcher: as in `classify`.
        has_memory: bool, whether answers are promised. That of an example that
            was rounded is then decided by a certificate, whose ball reaches the
            example: it cannot be promised as a point.
        seed: int, the root of all draws.
        batch_size: as in `classify`.

    Returns:
        int64 array, shape `(examples,)`, and a float32 array of scales.
    """
    scale = scales.find(
        searcher, x, stddev=counter.noise.stddev, seed=seed, index=index
    )

    def count(stream, stop):
        return counter.count(
            x,
            scale=scale,
            seed=seed,
            stream=stream,
            start=0,
            stop=stop,
            batch_size=batch_size,
        )

    votes = count(tiles.PREDICTION, claim.stopping.max_n)
    least = scales.least(scale)
    by_radius = np.full(len(x), not counter.finds_own_votes)
    by_radius |= has_memory & (rounding > 0)
    changed = counter.noise.total_variation(rounding / least)
    answer, decided = majority(votes, alpha, changed)
    if by_radius.any():
        # Other draws choose the class of which the majority is proved.
        chosen = np.argmax(count(tiles.SELECTION, _N0).counts, axis=1)
        _, radius = claim.prove(votes, chosen, least, rounding, alpha)
        answer = np.where(by_radius, chosen, answer)
        decided = np.where(by_radius, radius > 0, decided)
    decided &= ~warn_of_nan(votes.nan_draws, index)
    check_same_weights(counter.base_model, model)
    return np.where(decided, answer, ABSTAIN), scale
