"""What a memory of earlier promises does to a window of examples."""

import functools

import numpy as np
from keras import ops

from keras_smoothing.certification import scales
from keras_smoothing.example_digest import example_digest
from keras_smoothing.results import Record
from keras_smoothing.results import result_of
from keras_smoothing.statistics.votes import ABSTAIN


def bind(memory, model, counter, shape):
    """Makes sure that a memory is of the classifier at hand.

    Args:
        memory: `CertificationMemory`.
        model: str, the fingerprint of its base model.
        counter: `Counter`.
        shape: tuple of ints, the shape of an example.

    Raises:
        ValueError: if it is of another, or if the group is too large to list.
    """
    symmetries = None
    if counter.group is not None:
        # Where each coordinate of a rearranged example comes from.
        numbers = np.arange(np.prod(shape), dtype="int32").reshape(1, *shape)
        images = counter.group.orbit(
            ops.convert_to_tensor(numbers),
            counter.group.checked_elements(shape),
        )
        symmetries = ops.convert_to_numpy(images).reshape(-1, numbers.size)
    memory.bind(
        model,
        counter.noise.norm,
        shape,
        symmetries,
        counter.voting,
        counter.serialized,
    )


def unknown(memory, x, labels, index, rounding):
    """Of a window, what a memory does not answer and draws have to.

    Args:
        memory: `CertificationMemory`, bound.
        x: float32 array, shape `(examples, ...)`.
        labels: list of ints or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        rounding: float64 array, shape `(examples,)`, as of `Window`.

    Returns:
        x, labels, index and rounding of these examples. A point that was
        promised without a radius may yet get one.
    """
    known = memory.look_up(x, rounding)
    new = _uncertified(known)
    return x[new], [labels[i] for i in new], index[new], rounding[new]


def certify_new(
    memory, sample, x, labels, index, rounding, claim, no_votes, first
):
    """Certificates of a window, as far as a memory allows, and from now on.

    All examples are looked up first. Those in no ball, and points that were
    promised without a radius, are certified and then promised in order, each
    in view of those before it.

    Args:
        memory: `CertificationMemory`, bound.
        sample: function of x, labels, index and rounding to a `Record` of each
            example, and their scales.
        x: float32 array, shape `(examples, ...)`.
        labels: list of ints or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        rounding: float64 array, shape `(examples,)`, as of `Window`.
        claim: `Claim`.
        no_votes: `Votes` of no draws, of one example.
        first: int, how many promises there were when the call began.

    Returns:
        list of `Record`.
    """
    stddev, noise = claim.noise.stddev, claim.noise_in_words
    recalled = functools.partial(_recalled, no_votes=no_votes, stddev=stddev)
    known = memory.look_up(x, rounding)
    records = [
        promise and recalled(promise, x[i], labels[i], rounding[i])
        for i, promise in enumerate(known)
    ]
    new = _uncertified(known)
    alpha = _spend(memory, x, rounding, new, first, claim.alpha, _uncertified)
    if len(new):
        sampled, scale = sample(
            x[new], [labels[i] for i in new], index[new], rounding[new]
        )
        # Around x, as it is kept. What comes back is around what was given.
        around_x = [record._replace(rounding=0.0) for record in sampled]
        result = result_of(claim).from_records(
            around_x, claim, seed=None, alpha=alpha
        )
        promises = memory.promise(
            x[new],
            result.prediction,
            result.radius,
            scale,
            alpha,
            stddev,
            noise,
            rounding[new],
        )
        for i, own, record, promise in zip(
            new, scale, sampled, promises, strict=True
        ):
            same = promise.noise == noise and promise.stddev == stddev
            if same and np.array_equal(promise.scale, own):
                records[i] = record._replace(promise=promise)
            else:  # Of a ball that was promised meanwhile, with its noise.
                other = recalled(promise, x[i], labels[i], rounding[i])
                records[i] = other._replace(time=record.time)
    spent = memory.alpha_spent
    return [record._replace(memory_alpha=spent) for record in records]


def classify_new(memory, decide, x, index, rounding, claim, first):
    """Answers to a window, each promised from now on.

    Args:
        memory: `CertificationMemory`, bound.
        decide: function of x, index, rounding and the alpha of each example to
            its class, or `ABSTAIN`, and their scales.
        x: float32 array, shape `(examples, ...)`.
        index: int array, shape `(examples,)`, their numbers in the call.
        rounding: float64 array, shape `(examples,)`, as of `Window`.
        claim: `Claim`.
        first: int, how many promises there were when the call began.

    Returns:
        list of ints.
    """
    unanswered = functools.partial(_unanswered, rounding=rounding)
    answers = memory.look_up(x, rounding)
    new = unanswered(answers)
    alpha = _spend(memory, x, rounding, new, first, claim.alpha, unanswered)
    if len(new):
        labels, scale = decide(x[new], index[new], rounding[new], alpha)
        # Of a point alone, it does not matter in which directions.
        least = scales.least(scale)
        promises = memory.promise(
            x[new],
            labels,
            rounding[new],
            least,
            alpha,
            claim.noise.stddev,
            claim.noise_in_words,
            rounding[new],
        )
        for i, promise in zip(new, promises, strict=True):
            answers[i] = promise
    return [promise.prediction for promise in answers]


def check_kept(memory, records, x, rounding, first):
    """Raises where a memory does not hold what rows of a log promise.

    Args:
        memory: `CertificationMemory`, bound.
        records: list of `Record`, read from a log.
        x: float32 array, shape `(examples, ...)`, of which the first are those
            of the records.
        rounding: float64 array, shape `(examples,)`, as of `Window`.
        first: int, the number of the first of them in the run.

    Raises:
        ValueError: as said.
    """
    kept = memory.look_up(x[: len(records)], rounding[: len(records)])
    spent = memory.alpha_spent
    for i, (record, promise) in enumerate(zip(records, kept, strict=True)):
        wanted = record.promise
        if spent < record.memory_alpha or (
            wanted.prediction != ABSTAIN
            and (
                promise is None
                or promise.prediction != wanted.prediction
                or promise.radius < wanted.radius
            )
        ):
            raise ValueError(
                "Expected the memory that the log was written with, in which "
                f"example {first + i} is promised class {wanted.prediction} "
                f"at radius {wanted.radius}, with {record.memory_alpha} spent. "
                f"Received: a memory with {promise} and {spent} spent"
            )


def _uncertified(known):
    """Numbers of those that have no promise, or one without a radius."""
    return np.array(
        [i for i, p in enumerate(known) if not (p and p.radius)], int
    )


def _unanswered(known, rounding):
    """Numbers of those that have no promise.

    An example that was rounded, and may lie in a ball or beside it, is known
    once it has a ball of its own.
    """
    return np.array(
        [
            i
            for i, promise in enumerate(known)
            if promise is None or (rounding[i] > 0 and not promise.radius)
        ],
        int,
    )


def _spend(memory, x, rounding, new, first, alpha, unknown):
    """The alpha of each new query, counted before anything is answered.

    What the call itself has promised depends on the draws that all of its
    examples share. So does which of them it answers: they count, too.
    """
    asked = new
    if len(memory) > first:
        asked = unknown(memory.look_up(x, rounding, first))
    return memory.spend(len(asked), alpha)[np.isin(asked, new)]


def _recalled(promise, x, label, rounding, no_votes, stddev):
    """The record of an example that an earlier promise answers."""
    scale = np.asarray(promise.scale)[np.newaxis]
    # The promise may be of a model with other noise.
    unit = promise.stddev / stddev
    return Record(
        label=label,
        candidate=ABSTAIN,
        counts=no_votes.counts[0],
        num_samples=0,
        nan_draws=0,
        scale=unit * float(scales.least(scale)[0]),
        mean_scale=unit * float(scales.mean(scale)[0]),
        time=0.0,
        digest=example_digest(x),
        findings={name: found[0] for name, found in no_votes.findings.items()},
        promise=promise,
        rounding=float(rounding),
    )
