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
        counter: `Counter` or `SmoothedModel`.
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
    memory.bind(model, counter.noise.norm, shape, symmetries)


def unknown(memory, x, labels, index):
    """Of a window, what a memory does not answer and draws have to.

    Args:
        memory: `CertificationMemory`, bound.
        x: float32 array, shape `(examples, ...)`.
        labels: list of ints or of None.
        index: int array, shape `(examples,)`, their numbers in the run.

    Returns:
        x, labels and index of these examples. A point that was promised without
        a radius may yet get one.
    """
    known = memory.look_up(x)
    new = _new(known)
    return x[new], [labels[i] for i in new], index[new]


def certify_new(memory, sample, x, labels, index, claim, no_votes):
    """Certificates of a window, as far as a memory allows, and from now on.

    All examples are looked up first. Those in no ball, and points that were
    promised without a radius, are certified and then promised in order, each
    in view of those before it.

    Args:
        memory: `CertificationMemory`, bound.
        sample: function of x, labels and index to a `Record` of each example,
            and their scales.
        x: float32 array, shape `(examples, ...)`.
        labels: list of ints or of None.
        index: int array, shape `(examples,)`, their numbers in the run.
        claim: `Claim`.
        no_votes: `Votes` of no draws, of one example.

    Returns:
        list of `Record`.
    """
    stddev = claim.noise.stddev
    recalled = functools.partial(_recalled, no_votes=no_votes, stddev=stddev)
    known = memory.look_up(x)
    records = [
        promise and recalled(promise, x[i], labels[i])
        for i, promise in enumerate(known)
    ]
    new = _new(known)
    if len(new):
        sampled, scale = sample(x[new], [labels[i] for i in new], index[new])
        result = result_of(claim).from_records(sampled, claim, seed=None)
        promises = memory.promise(
            x[new],
            result.prediction,
            result.radius,
            scale,
            claim.alpha,
            stddev,
        )
        for i, own, record, promise in zip(
            new, scale, sampled, promises, strict=True
        ):
            if promise.stddev == stddev and np.array_equal(promise.scale, own):
                records[i] = record._replace(promise=promise)
            else:  # Of a ball that was promised meanwhile, with its noise.
                other = recalled(promise, x[i], labels[i])
                records[i] = other._replace(time=record.time)
    return records


def classify_new(memory, decide, x, index, claim):
    """Answers to a window, each promised from now on.

    Args:
        memory: `CertificationMemory`, bound.
        decide: function of x and index to the class of each example, or
            `ABSTAIN`, and their scales.
        x: float32 array, shape `(examples, ...)`.
        index: int array, shape `(examples,)`, their numbers in the call.
        claim: `Claim`.

    Returns:
        list of ints.
    """
    answers = memory.look_up(x)
    new = np.array([i for i, p in enumerate(answers) if p is None])
    if len(new):
        labels, scale = decide(x[new], index[new])
        # Of a point alone, it does not matter in which directions.
        least = scales.least(scale)
        promises = memory.promise(
            x[new],
            labels,
            np.zeros(len(new)),
            least,
            claim.alpha,
            claim.noise.stddev,
        )
        for i, promise in zip(new, promises, strict=True):
            answers[i] = promise
    return [promise.prediction for promise in answers]


def check_kept(memory, records, x, first):
    """Raises where a memory does not hold what rows of a log promise.

    Args:
        memory: `CertificationMemory`, bound.
        records: list of `Record`, read from a log.
        x: float32 array, shape `(examples, ...)`, of which the first are those
            of the records.
        first: int, the number of the first of them in the run.

    Raises:
        ValueError: as said.
    """
    kept = memory.look_up(x[: len(records)])
    for i, (record, promise) in enumerate(zip(records, kept, strict=True)):
        wanted = record.promise
        if wanted.prediction != ABSTAIN and (
            promise is None
            or promise.prediction != wanted.prediction
            or promise.radius < wanted.radius
        ):
            raise ValueError(
                "Expected the memory that the log was written with, in which "
                f"example {first + i} is promised class {wanted.prediction} "
                f"at radius {wanted.radius}. Received: a memory with {promise}"
            )


def _new(known):
    """Numbers of those that have no promise, or one without a radius."""
    return np.array(
        [i for i, p in enumerate(known) if not (p and p.radius)], int
    )


def _recalled(promise, x, label, no_votes, stddev):
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
    )
