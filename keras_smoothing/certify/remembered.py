"""Certification and prediction with a memory of earlier promises."""

import contextlib
import functools
import hashlib

import numpy as np
from keras import ops

from keras_smoothing.certificates.utils import example_digest
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.certify.task import least_scale
from keras_smoothing.certify.task import mean_scale
from keras_smoothing.memory import Answer
from keras_smoothing.memory import Head
from keras_smoothing.results import Record
from keras_smoothing.results import result_of


def bind(memory, model, sampler, shape):
    """Checks that a memory belongs to this classifier.

    Args:
        memory: `CertificationMemory`.
        model: str, the fingerprint of its base model.
        sampler: `Sampler`.
        shape: tuple of ints, the shape of an example.

    Raises:
        ValueError: if it belongs to another, or if the group is too large to
            list.
    """
    symmetries = None
    if sampler.group is not None:
        # The source of each coordinate of a rearranged example.
        numbers = np.arange(np.prod(shape), dtype="int32").reshape(1, *shape)
        images = sampler.group.orbit(
            ops.convert_to_tensor(numbers),
            sampler.group.checked_elements(shape),
        )
        symmetries = ops.convert_to_numpy(images).reshape(-1, numbers.size)
    memory.bind(
        model,
        sampler.noise.norm,
        shape,
        symmetries,
        sampler.voting,
        sampler.serialized,
    )


def check_held(memory, log):
    """Raises ValueError if a memory lacks promises that a log relies on."""
    memory.check_holds(Head(**log.settings["memory"]))
    if log.records:
        memory.check_holds(log.records[-1].memory_head)


class Remembered:
    """How a run of `certify` uses a memory.

    All examples of a chunk are looked up first. Those in no ball, and points
    that were promised without a radius, are certified and then promised in
    order, each taking the earlier ones into account.

    The memory's answers to a run with a log are kept with the promises, in the
    same transaction. A resumed run can thus repeat its draws and arrive at the
    same rows; otherwise it would only find its own promises.

    Args:
        memory: `CertificationMemory`, bound.
        claim: `Claim`.
        no_votes: `Votes` without draws, for one example.
        first: int, how many promises there were when the run began.
        run: str, a hash of everything that its draws depend on; None if there
            is no log, and nothing to resume.
    """

    def __init__(self, memory, claim, no_votes, first, run=None):
        self._memory = memory
        self._claim = claim
        self._no_votes = no_votes
        self._first = first
        self._run = run

    def unknown(self, chunk):
        """The examples of a chunk that need draws."""
        told = self._told(self._queries(chunk))
        known = self._memory.look_up(chunk.x, chunk.rounding)
        return chunk.part(_to_draw(known, told))

    def certify(self, chunk, sample):
        """Certifies a chunk, as far as the memory allows.

        Args:
            chunk: `Chunk`.
            sample: as in `Task.finish`.

        Returns:
            list of `Record`.
        """
        x, labels, _, rounding = chunk
        memory, queries = self._memory, self._queries(chunk)
        told = self._told(queries)
        known = memory.look_up(x, rounding)
        new = _to_draw(known, told)
        answers = self._count(queries, told, x, rounding, new)
        sampled = {}
        if len(new):
            records, scale = sample(chunk.part(new))
            pairs = zip(records, scale, strict=True)
            sampled = dict(zip(new, pairs, strict=True))
        # All except those that were answered before an interruption.
        left = [i for i, answer in enumerate(answers) if not answer.promise]
        with self._answering(new):
            made = self._promise(
                [i for i in left if i in sampled], x, rounding, answers, sampled
            )
            spent, head = memory.alpha_spent, memory.head
            for i in left:
                answers[i] = answers[i]._replace(
                    promise=made.get(i, known[i]),
                    memory_alpha=spent,
                    memory_head=head,
                )
            self._keep(queries, answers, left)
        return [
            self._record(answer, sampled.get(i), x[i], labels[i], rounding[i])
            for i, answer in enumerate(answers)
        ]

    def _queries(self, chunk):
        """Keys of the examples: hashes of their place in the run and values."""
        x, _, index, rounding = chunk
        if self._run is None:
            return [None] * len(x)
        queries = []
        for each, i, moved in zip(x, index, rounding, strict=True):
            place = f"{self._run} {i} {float(moved)!r} ".encode()
            queries.append(hashlib.sha256(place + each.tobytes()).hexdigest())
        return queries

    def _told(self, queries):
        if self._run is None:
            return queries
        return self._memory.told(queries)

    def _keep(self, queries, answers, which):
        if self._run is not None:
            self._memory.keep({queries[i]: answers[i] for i in which})

    def _answering(self, new):
        """Opens a transaction, unless nothing will be written."""
        if self._run is None and not len(new):
            return contextlib.nullcontext()
        return self._memory.transaction()

    def _count(self, queries, told, x, rounding, new):
        """Earlier answers, or an `Answer` without a promise for each new query.

        Queries are counted here, before anything is answered.
        """
        answers = [
            before or Answer(drawn=i in new) for i, before in enumerate(told)
        ]
        asked = _asked(
            self._memory, x, rounding, new, self._first, _uncertified
        )
        owed = [i for i in asked if told[i] is None]
        if owed:
            with self._memory.transaction():
                alphas = self._memory.spend(len(owed), self._claim.alpha)
                for i, alpha in zip(owed, alphas.tolist(), strict=True):
                    answers[i] = answers[i]._replace(alpha=alpha)
                self._keep(queries, answers, owed)
        return answers

    def _promise(self, which, x, rounding, answers, sampled):
        """Promises examples that were drawn for; returns them by number."""
        if not which:
            return {}
        claim = self._claim
        records, scale = zip(*(sampled[i] for i in which), strict=True)
        alpha = np.array([answers[i].alpha for i in which])
        # Promises are kept around the rounded x, but returned around the input.
        result = result_of(claim).from_records(
            [record._replace(rounding=0.0) for record in records],
            claim,
            seed=None,
            alpha=alpha,
        )
        promises = self._memory.promise(
            x[which],
            result.prediction,
            result.radius,
            np.array(scale),
            alpha,
            claim.noise.stddev,
            claim.noise_in_words,
            rounding[which],
        )
        return dict(zip(which, promises, strict=True))

    def _record(self, answer, sampled, x, label, rounding):
        noise, promise = self._claim.noise, answer.promise
        recalled = _recalled(
            promise, x, label, rounding, self._no_votes, noise.stddev
        )
        if sampled is not None:
            record, scale = sampled
            recalled = recalled._replace(time=record.time)
            same = (promise.noise, promise.stddev) == (
                self._claim.noise_in_words,
                noise.stddev,
            )
            # Otherwise the promise is a ball that was added meanwhile, with
            # noise of its own.
            if same and np.array_equal(promise.scale, scale):
                recalled = record._replace(promise=promise)
        return recalled._replace(
            memory_alpha=answer.memory_alpha, memory_head=answer.memory_head
        )


def predict_new(memory, task, chunk, sample):
    """Predicts a chunk, and promises each answer from now on.

    Args:
        memory: `CertificationMemory`, bound.
        task: `Prediction`.
        chunk: `Chunk`.
        sample: function from a part of it and the alpha of each example to
            classes, or `ABSTAIN`, and their scales.

    Returns:
        list of ints.
    """
    x, _, _, rounding = chunk
    claim = task.claim
    unanswered = functools.partial(_unanswered, rounding=rounding)
    answers = memory.look_up(x, rounding)
    new = unanswered(answers)
    asked = _asked(memory, x, rounding, new, task.first, unanswered)
    alpha = memory.spend(len(asked), claim.alpha)[np.isin(asked, new)]
    if len(new):
        labels, scale = sample(chunk.part(new), alpha)
        promises = memory.promise(
            x[new],
            labels,
            rounding[new],
            # For a single point, directions do not matter.
            least_scale(scale),
            alpha,
            claim.noise.stddev,
            claim.noise_in_words,
            rounding[new],
        )
        for i, promise in zip(new, promises, strict=True):
            answers[i] = promise
    return [promise.prediction for promise in answers]


def _to_draw(known, told):
    """Numbers of examples to draw for, for the first time or again.

    A point that was promised without a radius may yet get one.
    """
    drawn = [before is not None and before.drawn for before in told]
    new = set(_uncertified(known)) - {
        i for i, before in enumerate(told) if before is not None
    }
    return np.array(sorted(new.union(np.flatnonzero(drawn))), int)


def _uncertified(known):
    """Numbers of examples without a promise, or with one without a radius."""
    return np.array(
        [i for i, p in enumerate(known) if not (p and p.radius)], int
    )


def _unanswered(known, rounding):
    """Numbers of examples without a promise.

    A rounded example may lie inside or outside a ball: it counts as answered
    only once it has a ball of its own.
    """
    return np.array(
        [
            i
            for i, promise in enumerate(known)
            if promise is None or (rounding[i] > 0 and not promise.radius)
        ],
        int,
    )


def _asked(memory, x, rounding, new, first, unknown):
    """Numbers of the examples that count as queries, including the new ones.

    The promises of this call depend on the draws that all of its examples
    share, and so does which examples they answer. Those count, too.
    """
    if len(memory) > first:
        return unknown(memory.look_up(x, rounding, first))
    return new


def _recalled(promise, x, label, rounding, no_votes, stddev):
    """The record of an example that an earlier promise answers."""
    scale = np.asarray(promise.scale)[np.newaxis]
    # The promise may come from a model with other noise.
    unit = promise.stddev / stddev
    return Record(
        label=label,
        candidate=ABSTAIN,
        counts=no_votes.counts[0],
        num_samples=0,
        nan_draws=0,
        scale=unit * float(least_scale(scale)[0]),
        mean_scale=unit * float(mean_scale(scale)[0]),
        time=0.0,
        digest=example_digest(x),
        findings={name: found[0] for name, found in no_votes.findings.items()},
        promise=promise,
        rounding=float(rounding),
    )
