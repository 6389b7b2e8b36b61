"""From a window of examples to their votes."""

import itertools
import time
import warnings

import numpy as np

from keras_smoothing.certification import votes
from keras_smoothing.certification.fingerprint import example_digest
from keras_smoothing.certification.record import Record
from keras_smoothing.certification.result import ABSTAIN


def sample(counter, x, labels, claim, *, first, n0, seed, batch_size, on_draws):
    """Selects a class for each example and counts the votes for it.

    Args:
        counter: `VoteCounter`.
        x: float32 array, shape `(examples, ...)`.
        labels: list of ints or of None.
        claim: `Claim`. For the top k of several the class is the label where
            there is one, as in the paper; else it is the most voted.
        first: int, the index of the first example in the run.
        n0: int, draws that select the class.
        seed: int, the root of all draws.
        batch_size: int, noisy copies in one forward pass.
        on_draws: called with the work done, in examples.

    Returns:
        list of `Record`.
    """
    began = time.perf_counter()
    most = n0 + claim.stopping.max_n

    def draw(which, start, stop, stream=votes.ESTIMATION):
        return counter.count(
            x[which],
            seed=seed,
            stream=stream,
            start=start,
            stop=stop,
            batch_size=batch_size,
            on_draws=lambda draws: on_draws(len(which) * draws / most),
        )

    selection = draw(np.arange(len(x)), 0, n0, votes.SELECTION)
    candidate = np.argmax(selection, axis=1)
    if claim.top_k > 1 and labels[0] is not None:
        candidate = np.array(labels)
    candidate = np.where(selection.sum(axis=1) == n0, candidate, ABSTAIN)
    counts, num_samples = estimate(draw, candidate, selection.shape[1], claim)
    on_draws(np.sum(claim.stopping.max_n - num_samples) / most)
    total = n0 + num_samples
    nan_draws = total - selection.sum(axis=1) - counts.sum(axis=1)
    candidate = np.where(gave_nan(nan_draws, first), ABSTAIN, candidate)
    seconds = (time.perf_counter() - began) * total / total.sum()
    return [
        Record(
            label=labels[i],
            candidate=int(candidate[i]),
            counts=counts[i],
            num_samples=int(num_samples[i]),
            nan_draws=int(nan_draws[i]),
            time=float(seconds[i]),
            digest=example_digest(x[i]),
        )
        for i in range(len(x))
    ]


def estimate(draw, candidate, num_classes, claim):
    """Votes of each example, up to the look that decides it.

    An example that is decided makes room in the batches for more draws of
    those that are not.

    Args:
        draw: function from `(which, start, stop)` to the votes of the draws
            `start..stop` for the examples `which`, an int array:
            `(len(which), classes)`.
        candidate: int64 array, shape `(examples,)`; `ABSTAIN` for none.
        num_classes: int.
        claim: `Claim`.

    Returns:
        counts: int64 array, shape `(examples, classes)`.
        num_samples: int64 array, shape `(examples,)`, draws.
    """
    counts = np.zeros((len(candidate), num_classes), np.int64)
    num_samples = np.zeros(len(candidate), np.int64)
    which = np.arange(len(candidate))
    for start, stop in itertools.pairwise((0, *claim.stopping.looks)):
        counts[which] += draw(which, start, stop)
        num_samples[which] = stop
        decided = claim.stopping.is_decided(
            claim.prove, candidate[which], counts[which], stop
        )
        # An example that gave a NaN abstains, whatever comes.
        decided |= counts[which].sum(axis=1) < stop
        which = which[~decided]
        if not len(which):
            break
    return counts, num_samples


def gave_nan(nan_draws, first):
    """Which examples met a NaN; warns of them by index."""
    gave_nan = nan_draws > 0
    if gave_nan.any():
        warnings.warn(
            "The base model returned NaN under noise (or no probabilities, "
            "under soft voting), so the smoothed model abstains on example(s) "
            f"{first + np.flatnonzero(gave_nan)}.",
            stacklevel=5,
        )
    return gave_nan
