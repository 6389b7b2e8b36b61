"""From a window of examples to the votes of all their components."""

import math
import time

import numpy as np

from keras_smoothing.certification.warn_of_nan import warn_of_nan
from keras_smoothing.digests import example_digest
from keras_smoothing.results import ComponentRecord
from keras_smoothing.statistics.votes import ABSTAIN
from keras_smoothing.voting import tiles

# Votes for all classes are held for as many numbers at a time, of eight bytes.
_VALUES = 2**24


def sample(
    counter,
    x,
    labels,
    index,
    rounding,
    *,
    claim,
    n0,
    seed,
    batch_size,
    on_draws,
):
    """Selects a class for each component and counts the votes for it.

    Args:
        counter: `ComponentCounter`.
        x: float32 array, shape `(examples, ...)`.
        labels: list of int32 arrays or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        rounding: float64 array, shape `(examples,)`, as of `Window`.
        claim: `ComponentClaim`.
        n0: int, draws that select the classes.
        seed: int, the root of all draws.
        batch_size: int, noisy copies in one forward pass.
        on_draws: called with the work done, in examples.

    Returns:
        list of `ComponentRecord`, and the scales of the noise: ones.
    """
    began = time.perf_counter()
    selected = []

    for (some,) in parts(counter, x):

        def draw(stream, stop, x=some):
            return counter.count(
                x,
                seed=seed,
                stream=stream,
                start=0,
                stop=stop,
                batch_size=batch_size,
                on_draws=lambda draws: on_draws(
                    len(x) * draws / (n0 + claim.n)
                ),
            )

        selection = draw(tiles.SELECTION, n0)
        candidate = np.argmax(selection.counts, axis=-1)
        nan_draws = selection.nan_draws
        votes = draw(tiles.ESTIMATION, claim.n)
        nan_draws = nan_draws + votes.nan_draws
        is_answer = (nan_draws == 0) & ~counter.padding(some)
        candidate = np.where(is_answer, candidate, ABSTAIN)
        selected.append((candidate, votes.of(candidate), nan_draws))
    candidate, votes, nan_draws = (
        np.concatenate(parts).astype(np.int32)
        for parts in zip(*selected, strict=True)
    )
    warn_of_nan(nan_draws, index)
    seconds = (time.perf_counter() - began) / len(x)
    records = [
        ComponentRecord(
            label=labels[i],
            candidate=candidate[i],
            votes=votes[i],
            nan_draws=nan_draws[i],
            num_samples=claim.n,
            time=seconds,
            digest=example_digest(x[i]),
            rounding=float(rounding[i]),
        )
        for i in range(len(x))
    ]
    return records, np.ones(len(x), np.float32)


def parts(counter, x, *more):
    """Yields some examples at a time, whose votes fit into memory.

    Args:
        counter: `ComponentCounter`.
        x: float32 array, shape `(examples, ...)`.
        *more: arrays, shape `(examples,)`.

    Yields:
        tuple of slices of `x` and of `more`.
    """
    size = max(1, _VALUES // math.prod(counter.answers(x.shape[1:])))
    for first in range(0, len(x), size):
        yield tuple(part[first : first + size] for part in (x, *more))
