"""From a window of examples to the order statistics of their draws."""

import time

import numpy as np

from keras_smoothing.digests import example_digest
from keras_smoothing.results import record_of
from keras_smoothing.warn_caller import warn_caller

# What is kept and sorted at a time.
_BYTES = 2**28


def collect(
    counter, x, labels, index, rounding, *, claim, seed, batch_size, on_draws
):
    """Draws for examples and reduces them to medians and intervals.

    Args:
        counter: `OutputCollector`.
        x: float32 array, shape `(examples, ...)`.
        labels: list of arrays or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        rounding: float64 array, shape `(examples,)`, as of `Window`.
        claim: `MedianClaim`.
        seed: int, the root of all draws.
        batch_size: int, noisy copies in one forward pass.
        on_draws: called with the work done, in examples.

    Returns:
        list of records, and the scales of the noise: ones.
    """
    together, records = fitting(counter.answers(x.shape[1:]), claim.n), []
    for first in range(0, len(x), together):
        which = slice(first, first + together)
        records += _collect_some(
            *(counter, x[which], labels[which], rounding[which]),
            *(claim, seed, batch_size, on_draws),
        )
    gave_nan = np.array([record.nan_draws > 0 for record in records])
    if gave_nan.any():
        warn_caller(
            "The base model returned NaN under noise, which may stand for any "
            "number: intervals are wider for it, or infinite, on example(s) "
            f"{index[gave_nan]}.",
        )
    return records, np.ones(len(x), np.float32)


def fitting(answers, n):
    """How many examples' outputs to keep at a time, at least one's.

    Args:
        answers: tuple of ints, the shape of an answer.
        n: int, draws.
    """
    return max(1, _BYTES // bytes_of_one(answers, n))


def bytes_of_one(answers, n):
    """What the outputs for one example need; arguments as of `fitting`."""
    # What finds and sorts them needs about as much again.
    return 2 * 4 * n * int(np.prod(answers))


def _collect_some(
    counter, x, labels, rounding, claim, seed, batch_size, on_draws
):
    began = time.perf_counter()
    outputs = counter.collect(
        x,
        seed=seed,
        num_draws=claim.n,
        batch_size=batch_size,
        on_draws=lambda draws: on_draws(len(x) * draws / claim.n),
    )
    is_nan = np.isnan(outputs).reshape(*outputs.shape[:2], -1).any(axis=2)
    prediction, lower, upper = claim.prove(outputs, rounding)
    seconds = (time.perf_counter() - began) / len(x)
    return [
        record_of(claim)(
            label=labels[i],
            prediction=prediction[i],
            lower=lower[i],
            upper=upper[i],
            num_samples=claim.n,
            nan_draws=int(is_nan[i].sum()),
            time=seconds,
            digest=example_digest(x[i]),
            rounding=float(rounding[i]),
        )
        for i in range(len(x))
    ]
