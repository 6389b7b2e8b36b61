"""CERTIFY and PREDICT of Cohen, Rosenfeld and Kolter (2019).

The base model classifies noisy copies of an example. The first n0 draws select
a class, and n further draws bound its probability. The stopping rule decides
how many draws there are, and the claim decides what they prove.
"""

import dataclasses
import functools
import itertools
import time
import typing

import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.certificates import tiles
from keras_smoothing.certificates.guarantee import check_can_certify
from keras_smoothing.certificates.guarantee import check_can_classify
from keras_smoothing.certificates.utils import example_digest
from keras_smoothing.certificates.utils import warn_caller
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.certificates.votes import Votes
from keras_smoothing.certificates.votes import majority
from keras_smoothing.certificates.votes import warn_of_nan
from keras_smoothing.certify.remembered import Remembered
from keras_smoothing.certify.remembered import bind
from keras_smoothing.certify.remembered import check_held
from keras_smoothing.certify.remembered import predict_new
from keras_smoothing.certify.task import Task
from keras_smoothing.certify.task import least_scale
from keras_smoothing.certify.task import mean_scale
from keras_smoothing.results import Record

# Draws that choose a class in `Prediction`, as in `certify`.
_N0 = 100


@dataclasses.dataclass(frozen=True)
class _OfClasses(Task):
    """What certificates and predictions of classes have in common.

    Attributes:
        searcher: `Searcher` for the noise of each example, or None for the
            noise as it is.
        memory: `CertificationMemory`, which is asked first and keeps the
            answers; or None.
    """

    searcher: typing.Any = None
    memory: typing.Any = None

    def prepared(self, examples, answers, batch_size, family_wise):
        if self.searcher is not None and self.memory is None:
            _warn_of_evidence()
        task = super().prepared(examples, answers, batch_size, family_wise)
        if self.memory is not None:
            shape = examples.first.shape[1:]
            bind(self.memory, self.model, self.sampler, shape)
        sampler = task.sampler.tuned(examples.first, task.claim)
        return dataclasses.replace(task, sampler=sampler)

    def scales(self, chunk):
        """The factor of each example's noise.

        Returns:
            float32 array, shape `(examples,)` or `(examples, ...)`. Noise is
            multiplied in that type, so the radius uses the same factors.
        """
        if self.searcher is None:
            return np.ones(len(chunk.x), np.float32)
        found, stddev = self.searcher(chunk.x, self.seed), self.noise.stddev
        if found.failed.any():
            warn_caller(
                "The base model returned NaN in the search for sigma, so "
                f"example(s) {chunk.index[found.failed]} get the noise of the "
                f"model, sigma={stddev}.",
            )
        return (found.sigma / stddev).astype(np.float32)

    @property
    def noise(self):
        return self.sampler.noise


@dataclasses.dataclass(frozen=True)
class Classification(_OfClasses):
    """CERTIFY, for a chunk of examples that share their noise.

    Attributes:
        n0: int, draws that select the class.
        keeper: `Remembered`, if there is a memory and the run has begun.
    """

    n0: int = 100
    keeper: typing.Any = None

    _advice = (
        "Or certify it as it is, then `recertify(alpha, family_wise=True)`."
    )

    def __post_init__(self):
        super().__post_init__()
        checks.num_draws("n0", self.n0)

    @property
    def window(self):
        return self.claim.stopping.window

    @property
    def num_draws(self):
        return max(self.n0, self.claim.stopping.max_n)

    def prepared(self, examples, answers, batch_size, family_wise):
        arguments = () if self.searcher is None else ("sigma=sigma",)
        if self.memory is not None:
            arguments = ("memory=memory",)
        claim = dataclasses.replace(
            self.claim,
            classifier=self.sampler.call_in_words(*arguments),
            deployable=self.searcher is None or self.memory is not None,
            total_alpha=getattr(self.memory, "total_alpha", None),
        )
        task = dataclasses.replace(self, claim=claim)
        return super(Classification, task).prepared(
            examples, answers, batch_size, family_wise
        )

    def begun(self, log):
        task = super().begun(log)
        if self.memory is None:
            return task
        check_held(self.memory, log)
        log.begin()  # Before the memory keeps anything from the run.
        return dataclasses.replace(
            task,
            keeper=Remembered(
                self.memory,
                self.claim,
                self.sampler.no_votes(1, log.settings["num_classes"]),
                first=log.settings["memory"]["num_promises"],
                run=log.run,
            ),
        )

    def check(self, answers):
        if self.memory is not None and self.claim.top_k > 1:
            raise ValueError(
                "Expected top_k=1 with a memory, which promises one class. "
                f"Received: top_k={self.claim.top_k}"
            )
        check_can_certify(self.claim, answers)

    def settings(self, answers):
        return {
            "num_classes": answers,
            "sigma": self.searcher and self.searcher.get_config(),
            "memory": None
            if self.memory is None
            else self.memory.head._asdict(),
            "n0": int(self.n0),
        }

    def sample(self, chunk, on_draws):
        """Selects a class for each example and counts the votes for it.

        With `top_k` above 1, the class is the label if there is one, as in the
        paper; otherwise it is the most voted class.
        """
        began = time.perf_counter()
        stopping, scale = self.claim.stopping, self.scales(chunk)
        least, most = least_scale(scale), self.n0 + stopping.max_n

        def draw(which, start, stop, stream=tiles.ESTIMATION):
            return self.sampler.count(
                chunk.x[which],
                scale=scale[which],
                seed=self.seed,
                stream=stream,
                start=start,
                stop=stop,
                batch_size=self.batch_size,
                on_draws=lambda draws: on_draws(len(which) * draws / most),
            )

        everyone = np.arange(len(chunk.x))
        selection = draw(everyone, 0, self.n0, tiles.SELECTION)
        candidate = np.argmax(selection.counts, axis=1)
        if self.claim.top_k > 1 and chunk.labels[0] is not None:
            candidate = np.array(chunk.labels)
        candidate = np.where(selection.nan_draws == 0, candidate, ABSTAIN)
        votes = draw_until_decided(
            draw, candidate, self.claim, least, chunk.rounding
        )
        on_draws(np.sum(stopping.max_n - votes.num_samples) / most)
        nan_draws = selection.nan_draws + votes.nan_draws
        gave_nan = warn_of_nan(nan_draws, chunk.index)
        candidate = np.where(gave_nan, ABSTAIN, candidate)
        total = self.n0 + votes.num_samples
        seconds = (time.perf_counter() - began) * total / total.sum()
        mean = mean_scale(scale)
        return [
            Record(
                label=chunk.labels[i],
                candidate=int(candidate[i]),
                counts=votes.counts[i],
                num_samples=int(votes.num_samples[i]),
                nan_draws=int(nan_draws[i]),
                scale=float(least[i]),
                mean_scale=float(mean[i]),
                time=float(seconds[i]),
                digest=example_digest(chunk.x[i]),
                findings={name: f[i] for name, f in votes.findings.items()},
                rounding=float(chunk.rounding[i]),
            )
            for i in everyone
        ], scale

    @property
    def on_worker(self):
        return dataclasses.replace(self, memory=None, keeper=None)

    def unknown(self, chunk):
        return chunk if self.keeper is None else self.keeper.unknown(chunk)

    def finish(self, chunk, sample):
        if self.keeper is None:
            return super().finish(chunk, sample)
        return self.keeper.certify(chunk, sample)


def draw_until_decided(draw, candidate, claim, scale, rounding=0.0):
    """Votes of each example, up to the look that decides it.

    A decided example makes room in the batches for more draws of the others.

    Args:
        draw: function from `(which, start, stop)` to the `Votes` from draws
            `start..stop` for the examples `which`, an int array.
        candidate: int64 array, shape `(examples,)`; `ABSTAIN` for none.
        claim: `Claim`.
        scale: float64 array, shape `(examples,)`, as in `Claim.prove`.
        rounding: float or float64 array of that shape, as in `Claim.prove`.

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
        # An example with a NaN abstains, whatever further draws say.
        decided |= votes.nan_draws > 0
        finished.append((which[decided], votes[decided]))
        which, votes = which[~decided], votes[~decided]
        if not len(which):
            break
    finished.append((which, votes))  # Left undecided by the last look.
    order, parts = zip(*finished, strict=True)
    return Votes.concatenate(parts)[np.argsort(np.concatenate(order))]


def _decided(stopping, prove, candidate, votes):
    """The result of `is_decided`, checked to be a bool for each example."""
    decided = np.array(stopping.is_decided(prove, candidate, votes))
    # Integers would be taken as indices, and finish the wrong examples.
    if decided.dtype != np.bool_ or decided.shape != candidate.shape:
        raise ValueError(
            f"Expected `is_decided` of {stopping} to return a bool array of "
            f"shape {candidate.shape}. Received: {decided.dtype} of shape "
            f"{decided.shape}"
        )
    return decided


@dataclasses.dataclass(frozen=True)
class Prediction(_OfClasses):
    """PREDICT: the class that most draws vote for, if a test confirms it.

    If an example was rounded and a memory keeps its answer, a certificate whose
    ball reaches the example decides instead, since the example cannot be
    promised as a point. A certificate also decides if votes may differ from the
    base model's predictions.

    Attributes:
        first: int, how many promises there were when the call began.
    """

    first: int = 0

    @property
    def num_draws(self):
        return self.claim.stopping.max_n

    def prepared(self, examples, answers, batch_size, family_wise):
        task = super().prepared(examples, answers, batch_size, family_wise)
        if self.memory is None:
            return task
        return dataclasses.replace(task, first=len(self.memory))

    def check(self, answers):
        check_can_classify(self.num_draws, self.claim.alpha)

    def sample(self, chunk, on_draws, alpha=None):
        """Decides each example, or abstains.

        Args:
            chunk: as in `Task.sample`.
            on_draws: as in `Task.sample`.
            alpha: float64 array, shape `(examples,)`, the alpha of each answer;
                or None for that of the claim.

        Returns:
            int64 array, shape `(examples,)`, and the scales of the noise.
        """
        alpha = self.claim.alpha if alpha is None else alpha
        scale = self.scales(chunk)
        least = least_scale(scale)

        def draw(stream, stop):
            return self.sampler.count(
                chunk.x,
                scale=scale,
                seed=self.seed,
                stream=stream,
                start=0,
                stop=stop,
                batch_size=self.batch_size,
            )

        votes = draw(tiles.PREDICTION, self.num_draws)
        changed = self.noise.total_variation(chunk.rounding / least)
        answer, decided = majority(votes, alpha, changed)
        certified = np.full(len(chunk.x), not self.sampler.finds_own_votes)
        certified |= (self.memory is not None) & (chunk.rounding > 0)
        if certified.any():
            # Separate draws choose the class whose majority is proved.
            chosen = np.argmax(draw(tiles.SELECTION, _N0).counts, axis=1)
            _, radius = self.claim.prove(
                votes, chosen, least, chunk.rounding, alpha
            )
            answer = np.where(certified, chosen, answer)
            decided = np.where(certified, radius > 0, decided)
        decided &= ~warn_of_nan(votes.nan_draws, chunk.index)
        return np.where(decided, answer, ABSTAIN), scale

    def finish(self, chunk, sample):
        if self.memory is None:
            return super().finish(chunk, sample)
        return predict_new(self.memory, self, chunk, sample)


def _warn_of_evidence():
    """Warns of noise chosen by the input without a memory."""
    warn_caller(
        "Without a memory, a classifier that chooses sigma by the input has no "
        "certificate: elsewhere in the ball it may choose another sigma. What "
        "is returned is evidence about each input with its own sigma. Pass "
        "memory=ks.CertificationMemory(path) to certify, and classify with "
        "the same one.",
    )
