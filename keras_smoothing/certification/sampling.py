"""From a window of examples to their votes."""

import functools
import itertools
import time

import numpy as np

from keras_smoothing.certification import scales
from keras_smoothing.certification.warn_of_nan import warn_of_nan
from keras_smoothing.digests import example_digest
from keras_smoothing.results import Record
from keras_smoothing.statistics import Votes
from keras_smoothing.statistics.votes import ABSTAIN
from keras_smoothing.voting import tiles


def sample(
    counter,
    x,
    labels,
    index,
    rounding,
    *,
    claim,
    searcher,
    n0,
    seed,
    batch_size,
    on_draws,
):
    """Selects a class for each example and counts the votes for it.

    Args:
        counter: `Counter`.
        x: float32 array, shape `(examples, ...)`.
        labels: list of ints or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        rounding: float64 array, shape `(examples,)`, as of `Window`.
        claim: `Claim`. For the top k of several the class is the label where
            there is one, as in the paper; else it is the most voted.
        searcher: `Searcher` for the noise of each example, or None for the
            noise as it is.
        n0: int, draws that select the class.
        seed: int, the root of all draws.
        batch_size: int, noisy copies in one forward pass.
        on_draws: called with the work done, in examples.

    Returns:
        list of `Record`, and the scales of the noise: float32 array, shape
        `(examples,)` or `(examples, ...)`.
    """
    began = time.perf_counter()
    most = n0 + claim.stopping.max_n
    scale = scales.find(
        searcher, x, stddev=counter.noise.stddev, seed=seed, index=index
    )
    least, mean = scales.least(scale), scales.mean(scale)

    def draw(which, start, stop, stream=tiles.ESTIMATION):
        return counter.count(
            x[which],
            scale=scale[which],
            seed=seed,
            stream=stream,
            start=start,
            stop=stop,
            batch_size=batch_size,
            on_draws=lambda draws: on_draws(len(which) * draws / most),
        )

    selection = draw(np.arange(len(x)), 0, n0, tiles.SELECTION)
    candidate = np.argmax(selection.counts, axis=1)
    if claim.top_k > 1 and labels[0] is not None:
        candidate = np.array(labels)
    candidate = np.where(selection.nan_draws == 0, candidate, ABSTAIN)
    votes = estimate(draw, candidate, claim, least, rounding)
    on_draws(np.sum(claim.stopping.max_n - votes.num_samples) / most)
    nan_draws = selection.nan_draws + votes.nan_draws
    candidate = np.where(warn_of_nan(nan_draws, index), ABSTAIN, candidate)
    total = n0 + votes.num_samples
    seconds = (time.perf_counter() - began) * total / total.sum()
    records = [
        Record(
            label=labels[i],
            candidate=int(candidate[i]),
            counts=votes.counts[i],
            num_samples=int(votes.num_samples[i]),
            nan_draws=int(nan_draws[i]),
            scale=float(least[i]),
            mean_scale=float(mean[i]),
            time=float(seconds[i]),
            digest=example_digest(x[i]),
            findings={name: found[i] for name, found in votes.findings.items()},
            rounding=float(rounding[i]),
        )
        for i in range(len(x))
    ]
    return records, scale


def estimate(draw, candidate, claim, scale, rounding=0.0):
    """Votes of each example, up to the look that decides it.

    An example that is decided makes room in the batches for more draws of
    those that are not.

    Args:
        draw: function from `(which, start, stop)` to the `Votes` of the draws
            `start..stop` for the examples `which`, an int array.
        candidate: int64 array, shape `(examples,)`; `ABSTAIN` for none.
        claim: `Claim`.
        scale: float64 array, shape `(examples,)`, as of `Claim.prove`.
        rounding: float or float64 array of that shape, as there.

    Returns:
        `Votes`.
    """
    which, votes, finished = np.arange(len(candidate)), None, []
    rounding = np.broadcast_to(rounding, candidate.shape)
    for start, stop in itertools.pairwise((0, *claim.stopping.looks)):
        drawn = draw(which, start, stop)
        votes = drawn if votes is None else votes + drawn
        prove = functools.partial(
            claim.prove,
            candidate=candidate[which],
            scale=scale[which],
            rounding=rounding[which],
        )
        decided = _decided(claim.stopping, prove, candidate[which], votes)
        # An example that gave a NaN abstains, whatever comes.
        decided |= votes.nan_draws > 0
        finished.append((which[decided], votes[decided]))
        which, votes = which[~decided], votes[~decided]
        if not len(which):
            break
    finished.append((which, votes))  # Whatever the last look left open.
    order, parts = zip(*finished, strict=True)
    return Votes.concatenate(parts)[np.argsort(np.concatenate(order))]


def _decided(stopping, prove, candidate, votes):
    """What `is_decided` says, a bool for each example and nothing else."""
    decided = np.array(stopping.is_decided(prove, candidate, votes))
    # By integers, other examples would be finished than those meant.
    if decided.dtype != np.bool_ or decided.shape != candidate.shape:
        raise ValueError(
            f"Expected `is_decided` of {stopping} to return a bool array of "
            f"shape {candidate.shape}. Received: {decided.dtype} of shape "
            f"{decided.shape}"
        )
    return decided
