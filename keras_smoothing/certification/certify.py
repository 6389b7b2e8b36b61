"""From examples to certificates."""

import keras
import numpy as np
import scipy

from keras_smoothing import backend
from keras_smoothing.certification.plan import check_can_certify
from keras_smoothing.certification.progress import Progress
from keras_smoothing.certification.sampling import sample
from keras_smoothing.logs import CertificationLog
from keras_smoothing.logs import example_digest
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs.log_format import FORMAT
from keras_smoothing.logs.log_format import describe
from keras_smoothing.version import __version__


def certify(counter, claim, request, settings):
    """Certificates of examples. See `SmoothedModel.certify`.

    Args:
        counter: `Counter`, how votes are found.
        claim: `Claim`, what is to be proved.
        request: `Request`, of which examples.
        settings: `Settings`, how it is run.

    Returns:
        `CertificationResult`.
    """
    window = min(claim.stopping.window, settings.batch_size)
    examples, num_classes = request.open(counter, window)
    if settings.family_wise:
        claim = claim.shared_by(_known(examples.exact_total))
    check_can_certify(claim, num_classes)
    counter = counter.tuned(examples.first, claim)
    log = CertificationLog(
        settings.log, _header(counter, claim, settings, num_classes), claim
    )
    progress = Progress(examples.total, settings.verbose)
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
                n0=settings.n0,
                seed=log.settings["seed"],
                batch_size=settings.batch_size,
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


def _header(counter, claim, settings, num_classes):
    """All that certificates depend on, as the log keeps it."""
    return {
        "format": FORMAT,
        "model": fingerprint(counter.base_model),
        "num_classes": num_classes,
        **counter.get_config(),
        **describe(claim),
        "n0": int(settings.n0),
        "seed": None if settings.seed is None else int(settings.seed),
        "backend": keras.backend.backend(),
        "versions": _versions(),
    }


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
