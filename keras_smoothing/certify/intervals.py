"""Intervals of medians: of regression outputs, and of edges of boxes."""

import dataclasses
import time

import numpy as np

from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.utils import warn_caller
from keras_smoothing.certify.task import Task
from keras_smoothing.sampling import check_fits
from keras_smoothing.sampling import free_bytes

# Bytes of outputs that are held and sorted at once.
_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class Intervals(Task):
    """Order statistics of draws, which bound the medians within a ball.

    No draws are spent on selection: all of them estimate.
    """

    def prepared(self, examples, answers, batch_size, family_wise):
        check_fits(
            bytes_of_one(answers, self.claim.n),
            free_bytes(),
            f"the outputs of {self.claim.n:,} draws",
        )
        return super().prepared(examples, answers, batch_size, family_wise)

    def check(self, answers):
        claim = self.claim
        infinite = claim.ranks(answers) > claim.n
        if not infinite.any():
            return
        first = int(np.argmax(infinite))
        radius, needed = claim.radii[first], claim.smallest_n(answers)[first]
        enough = "another radius"
        if needed < np.inf:
            enough = f"n >= {at_most(needed, '.0f')}"
        what = (
            f"{enough} at alpha={claim.alpha}, radius {radius} and "
            f"{int(np.prod(answers))} coordinates (correction="
            f"{claim.correction})"
        )
        if infinite.all():
            raise ValueError(
                f"Expected {what}: there, and beyond, intervals are infinite. "
                f"Received: n={claim.n}, radii={claim.radii}"
            )
        warn_caller(
            f"With n={claim.n} draws, intervals are infinite from radius "
            f"{radius} on. Finite ones take {what}. See the model's `plan`.",
        )

    def sample(self, chunk, on_draws):
        """Draws outputs and reduces them to medians and intervals."""
        size = fitting(self.sampler.answers(chunk.x.shape[1:]), self.claim.n)
        records = [
            record
            for first in range(0, len(chunk.x), size)
            for record in self._records(
                chunk.part(slice(first, first + size)), on_draws
            )
        ]
        gave_nan = np.array([record.nan_draws > 0 for record in records])
        if gave_nan.any():
            warn_caller(
                "The base model returned NaN under noise, which may stand for "
                "any number: intervals are wider for it, or infinite, on "
                f"example(s) {chunk.index[gave_nan]}.",
            )
        return records, np.ones(len(chunk.x), np.float32)

    def _records(self, chunk, on_draws):
        began, n = time.perf_counter(), self.claim.n
        outputs = self.sampler.collect(
            chunk.x,
            seed=self.seed,
            num_draws=n,
            batch_size=self.batch_size,
            on_draws=lambda draws: on_draws(len(chunk.x) * draws / n),
        )
        is_nan = np.isnan(outputs).reshape(*outputs.shape[:2], -1).any(axis=2)
        prediction, lower, upper = self.claim.prove(outputs, chunk.rounding)
        return self.records(
            chunk,
            began,
            prediction=prediction,
            lower=lower,
            upper=upper,
            num_samples=[n] * len(chunk.x),
            nan_draws=is_nan.sum(axis=1).tolist(),
        )


def fitting(answers, n):
    """How many examples' outputs to hold at once: at least one.

    Args:
        answers: tuple of ints, the shape of an answer.
        n: int, draws.
    """
    return max(1, _BYTES // bytes_of_one(answers, n))


def bytes_of_one(answers, n):
    """Bytes that the outputs for one example need; Args as in `fitting`."""
    # Computing and sorting them needs about as much again.
    return 2 * 4 * n * int(np.prod(answers))
