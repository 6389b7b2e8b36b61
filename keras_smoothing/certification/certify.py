"""From examples to certificates, and to predictions that may abstain."""

import secrets
import time
import warnings

import keras
import numpy as np
import scipy

from keras_smoothing import backend
from keras_smoothing import checks
from keras_smoothing.certification import votes
from keras_smoothing.certification.bounds import two_sided_binomial_test
from keras_smoothing.certification.examples import WINDOW
from keras_smoothing.certification.examples import Examples
from keras_smoothing.certification.examples import looks_like_bytes
from keras_smoothing.certification.fingerprint import example_digest
from keras_smoothing.certification.fingerprint import fingerprint
from keras_smoothing.certification.log import CertificationLog
from keras_smoothing.certification.plan import check_can_certify
from keras_smoothing.certification.plan import check_can_classify
from keras_smoothing.certification.progress import Progress
from keras_smoothing.certification.record import Record
from keras_smoothing.certification.result import ABSTAIN
from keras_smoothing.version import __version__

# Counted up whenever the same settings would give other draws or other rows.
_LOG_FORMAT = 1


def certify(
    counter, x, y, *, shape, n0, n, alpha, batch_size, seed, log, verbose
):
    """Certificates of examples. See `SmoothedModel.certify`.

    Args:
        counter: `VoteCounter`.
        shape: tuple or None, the shape of one example; None in it for any size.

    Returns:
        `CertificationResult`.
    """
    n0 = checks.positive_int("n0", n0)
    n = checks.positive_int("n", n)
    alpha = checks.probability("alpha", alpha)
    batch_size = checks.positive_int("batch_size", batch_size)
    seed = None if seed is None else checks.seed(seed)
    check_can_certify(n, alpha, counter.noise)
    examples = _open(counter, x, y, shape, batch_size)
    num_classes = votes.num_classes(
        counter.base_model, examples.first.shape[1:]
    )
    settings = {
        "format": _LOG_FORMAT,
        "model": fingerprint(counter.base_model),
        "num_classes": num_classes,
        "noise": keras.saving.serialize_keras_object(counter.noise),
        "n0": n0,
        "n": n,
        "alpha": alpha,
        "seed": seed,
        "backend": keras.backend.backend(),
        "versions": _versions(),
    }
    log = CertificationLog(log, settings, counter.noise)
    progress = Progress(examples.total, verbose)
    done = 0
    for x, labels in examples.windows(num_classes):
        known = log.records[done : done + len(x)]
        _check_same_examples(known, x, labels, done)
        x, labels = x[len(known) :], labels[len(known) :]
        if len(x):
            log.append(_sample(counter, x, labels, log, batch_size, progress))
        progress.on_examples_end(log.result(done, done + len(known) + len(x)))
        done += len(known) + len(x)
    if done < len(log.records):
        raise ValueError(
            f"The log has more rows than there are examples. Expected at most "
            f"{done}. Received: {len(log.records)}. `read_log` reads them all."
        )
    progress.on_certify_end()
    return log.result(0, done)


def classify(counter, x, *, shape, n, alpha, batch_size, seed):
    """Predictions of examples. See `SmoothedModel.classify`.

    Args:
        counter: `VoteCounter`.
        shape: tuple or None, the shape of one example; None in it for any size.

    Returns:
        int64 array, shape `(examples,)`.
    """
    n = checks.positive_int("n", n)
    alpha = checks.probability("alpha", alpha)
    batch_size = checks.positive_int("batch_size", batch_size)
    seed = secrets.randbits(63) if seed is None else checks.seed(seed)
    check_can_classify(n, alpha)
    examples = _open(counter, x, None, shape, batch_size)
    num_classes = votes.num_classes(
        counter.base_model, examples.first.shape[1:]
    )
    labels = []
    for x, _ in examples.windows(num_classes):
        counts = counter.count(
            x,
            seed=seed,
            stream=votes.PREDICTION,
            start=0,
            stop=n,
            batch_size=batch_size,
        )
        second, first = np.sort(counts, axis=1)[:, -2:].T
        decided = two_sided_binomial_test(first, second) <= alpha
        decided &= ~_gave_nan(n - counts.sum(axis=1), len(labels))
        labels.extend(np.where(decided, np.argmax(counts, axis=1), ABSTAIN))
    return np.array(labels, np.int64)


def _open(counter, x, y, shape, batch_size):
    """Validated examples, and a base model built for them."""
    examples = Examples(x, y, shape=shape, window=min(WINDOW, batch_size))
    if looks_like_bytes(examples.first) and counter.noise.stddev < 2:
        warnings.warn(
            f"The examples look like images with values 0..255, and the noise "
            f"{counter.noise} is for values 0..1: its scale is in the units "
            "of the input. Scale the images, or the noise.",
            stacklevel=4,
        )
    if not counter.base_model.built:
        counter.base_model(examples.first[:1], training=False)
    return examples


def _sample(counter, x, labels, log, batch_size, progress):
    """Selects a class for each example and counts the votes for it."""
    began = time.perf_counter()
    n0, n = log.settings["n0"], log.settings["n"]
    selection, counts = (
        counter.count(
            x,
            seed=log.settings["seed"],
            stream=stream,
            start=0,
            stop=stop,
            batch_size=batch_size,
            on_draws=lambda draws: progress.on_draws(len(x) * draws / (n0 + n)),
        )
        for stream, stop in ((votes.SELECTION, n0), (votes.ESTIMATION, n))
    )
    nan_draws = n0 + n - selection.sum(axis=1) - counts.sum(axis=1)
    gave_nan = _gave_nan(nan_draws, len(log.records))
    candidates = np.where(gave_nan, ABSTAIN, np.argmax(selection, axis=1))
    seconds = (time.perf_counter() - began) / len(x)
    return [
        Record(
            label=labels[i],
            candidate=int(candidates[i]),
            counts=counts[i],
            num_samples=n,
            nan_draws=int(nan_draws[i]),
            time=seconds,
            digest=example_digest(x[i]),
        )
        for i in range(len(x))
    ]


def _gave_nan(nan_draws, first):
    """Which examples met a NaN; warns of them by index."""
    gave_nan = nan_draws > 0
    if gave_nan.any():
        warnings.warn(
            "The base model returned NaN under noise, so the smoothed model "
            f"abstains on example(s) {first + np.flatnonzero(gave_nan)}.",
            stacklevel=4,
        )
    return gave_nan


def _check_same_examples(known, x, labels, first):
    """Raises where rows of a log are of other examples than these."""
    for i, record in enumerate(known):
        for name, ours, theirs in (
            ("digest", example_digest(x[i]), record.digest),
            ("label", labels[i], record.label),
        ):
            if ours != theirs:
                raise ValueError(
                    f"The log is of other examples. Expected {name} {ours} in "
                    f"row {first + i}. Received: {theirs}. Pass the x and y of "
                    "the log, in the same order, or choose another path."
                )


def _versions():
    # The packages' own words: what a wheel is called varies.
    return {
        "keras_smoothing": __version__,
        "keras": keras.__version__,
        keras.backend.backend(): backend.VERSION,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
