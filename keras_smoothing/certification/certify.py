"""From examples to certificates, and to predictions that may abstain."""

import secrets
import warnings

import keras
import numpy as np
import scipy
from keras import ops

from keras_smoothing import backend
from keras_smoothing import checks
from keras_smoothing.certification import ballots
from keras_smoothing.certification import votes
from keras_smoothing.certification.bounds import two_sided_binomial_test
from keras_smoothing.certification.examples import Examples
from keras_smoothing.certification.examples import looks_like_bytes
from keras_smoothing.certification.fingerprint import example_digest
from keras_smoothing.certification.fingerprint import fingerprint
from keras_smoothing.certification.log import CertificationLog
from keras_smoothing.certification.log_format import FORMAT
from keras_smoothing.certification.plan import check_can_certify
from keras_smoothing.certification.plan import check_can_classify
from keras_smoothing.certification.progress import Progress
from keras_smoothing.certification.result import ABSTAIN
from keras_smoothing.certification.sampling import gave_nan
from keras_smoothing.certification.sampling import sample
from keras_smoothing.certification.stopping import WINDOW
from keras_smoothing.version import __version__


def certify(
    counter,
    x,
    y,
    claim,
    *,
    shape,
    n0,
    family_wise,
    batch_size,
    seed,
    log,
    verbose,
):
    """Certificates of examples. See `SmoothedModel.certify`.

    Args:
        counter: `VoteCounter`.
        claim: `Claim`.
        shape: tuple or None, the shape of one example; None in it for any size.

    Returns:
        `CertificationResult`.
    """
    n0 = checks.positive_int("n0", n0)
    batch_size = checks.positive_int("batch_size", batch_size)
    seed = None if seed is None else checks.seed(seed)
    window = min(claim.stopping.window, batch_size)
    examples, num_classes = _open(counter, x, y, shape, window)
    if family_wise:
        claim = claim.shared_by(_known(examples.exact_total))
    check_can_certify(claim, num_classes)
    serialize = keras.saving.serialize_keras_object
    settings = {
        "format": FORMAT,
        "model": fingerprint(counter.base_model),
        "num_classes": num_classes,
        "noise": serialize(counter.noise),
        "voting": counter.voting,
        "group": serialize(claim.group),
        "n0": n0,
        "stopping": serialize(claim.stopping),
        "alpha": float(claim.alpha),
        "top_k": int(claim.top_k),
        "seed": seed,
        "backend": keras.backend.backend(),
        "versions": _versions(),
    }
    log = CertificationLog(log, settings, claim)
    progress = Progress(examples.total, verbose)
    done = 0
    for x, labels in examples.windows(num_classes):
        known = log.records[done : done + len(x)]
        _check_same_examples(known, x, labels, done)
        x, labels = x[len(known) :], labels[len(known) :]
        if len(x):
            records = sample(
                counter,
                x,
                labels,
                claim,
                first=len(log.records),
                n0=n0,
                seed=log.settings["seed"],
                batch_size=batch_size,
                on_draws=progress.on_draws,
            )
            log.append(records)
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
    window = min(WINDOW, batch_size)
    examples, num_classes = _open(counter, x, None, shape, window)
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
        decided &= ~gave_nan(n - counts.sum(axis=1), len(labels))
        labels.extend(np.where(decided, np.argmax(counts, axis=1), ABSTAIN))
    return np.array(labels, np.int64)


def _open(counter, x, y, shape, window):
    """Validated examples, the number of classes, and a model built for both."""
    # Sums in float32 are then right to a thousandth of the noise.
    limit = 2.0**14 * counter.noise.stddev
    examples = Examples(x, y, shape=shape, window=window, limit=limit)
    if looks_like_bytes(examples.first) and counter.noise.stddev < 2:
        warnings.warn(
            f"The examples look like images with values 0..255, and the noise "
            f"{counter.noise} is for values 0..1: its scale is in the units "
            "of the input. Scale the images, or the noise.",
            stacklevel=4,
        )
    first = examples.first[:1]
    if not counter.base_model.built:
        counter.base_model(first, training=False)
    num_classes = votes.num_classes(counter.base_model, first.shape[1:])
    if counter.voting == "soft":
        outputs = counter.base_model(first, training=False)
        if not ballots.is_distribution(outputs)[0]:
            raise ValueError(
                "Expected a base model that returns probabilities, for soft "
                f"voting. Received: outputs {ops.convert_to_numpy(outputs)[0]}."
                " A Softmax layer at its end makes them of logits."
            )
    return examples, num_classes


def _known(total):
    if total is None:
        raise ValueError(
            "Expected a known number of examples, over which a family-wise "
            "alpha is shared. Received: a dataset that does not say it; "
            "one that is not batched may. Or certify it as it is, then "
            "`recertify(alpha, family_wise=True)`."
        )
    return total


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
