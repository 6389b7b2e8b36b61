"""From examples to certificates."""

import dataclasses
import functools

import keras
import numpy as np

from keras_smoothing.certification import promising
from keras_smoothing.certification.enough import check_can_certify
from keras_smoothing.certification.evidence import warn_of_evidence
from keras_smoothing.certification.progress import Progress
from keras_smoothing.certification.sampling import sample
from keras_smoothing.certification.spreading import Window
from keras_smoothing.certification.spreading import spread
from keras_smoothing.example_digest import example_digest
from keras_smoothing.logs import CertificationLog
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs.log_format import FORMAT
from keras_smoothing.logs.log_format import describe
from keras_smoothing.logs.versions import versions


def certify(counter, claim, request, settings, searcher=None, memory=None):
    """Certificates of examples. See `SmoothedModel.certify`.

    Args:
        counter: `Counter`, how votes are found.
        claim: `Claim`, what is to be proved.
        request: `Request`, of which examples.
        settings: `Settings`, how it is run.
        searcher: `Searcher` for the noise of each example, or None.
        memory: `CertificationMemory` or None.

    Returns:
        `CertificationResult`.
    """
    window = min(claim.stopping.window, settings.batch_size)
    examples, num_classes = request.open(counter, window, searcher)
    if searcher is not None and memory is None:
        warn_of_evidence()
        claim = dataclasses.replace(claim, deployable=False)
    if memory is not None and claim.top_k > 1:
        raise ValueError(
            "Expected top_k=1 with a memory, which promises one class. "
            f"Received: top_k={claim.top_k}"
        )
    if settings.family_wise:
        claim = claim.shared_by(_known(examples.exact_total))
    check_can_certify(claim, num_classes)
    counter = counter.tuned(examples.first, claim)
    header = _header(counter, claim, settings, num_classes, searcher, memory)
    if memory is not None:
        shape = examples.first.shape[1:]
        promising.bind(memory, header["model"], counter, shape)
    log = CertificationLog(settings.log, header, claim)
    progress = Progress(examples.total, settings.verbose)
    sample_all = functools.partial(
        sample,
        counter,
        claim=claim,
        searcher=searcher,
        n0=settings.n0,
        seed=log.settings["seed"],
        batch_size=settings.batch_size,
    )
    no_votes = counter.no_votes(1, num_classes)
    with spread(
        _new(examples.windows(num_classes), log, memory, progress),
        sample_all,
        header["model"],
        cluster=settings.cluster,
        memory=memory,
        on_draws=progress.on_draws,
    ) as windows:
        for window, sample_some in windows:
            if memory is None:
                records, _ = sample_some(*window)
            else:
                records = promising.certify_new(
                    memory, sample_some, *window, claim, no_votes
                )
            log.append(records)
            progress.on_examples_end(log.result(-len(records), None))
    progress.on_certify_end()
    return log.result(0, None)


def _new(windows, log, memory, progress):
    """Yields a `Window` of those examples of each that a log does not have.

    Raises:
        ValueError: if the log is of other examples, or the memory does not
            hold what it promises.
    """
    resumed, done = list(log.records), 0
    for x, labels in windows:
        known = resumed[done : done + len(x)]
        _check_same_examples(known, x, labels, done)
        if memory is not None:
            promising.check_kept(memory, known, x, done)
        index = np.arange(done, done + len(x))
        done += len(x)
        if known:
            progress.on_examples_end(
                log.result(index[0], index[0] + len(known))
            )
        if len(known) < len(x):
            yield Window(*(part[len(known) :] for part in (x, labels, index)))
    if done < len(resumed):
        raise ValueError(
            f"The log has more rows than there are examples. Expected at most "
            f"{done}. Received: {len(resumed)}. `read_log` reads them all."
        )


def _header(counter, claim, settings, num_classes, searcher, memory):
    """All that certificates depend on, as the log keeps it."""
    return {
        "format": FORMAT,
        "model": fingerprint(counter.base_model),
        "num_classes": num_classes,
        **counter.get_config(),
        **describe(claim),
        "sigma": searcher and searcher.get_config(),
        "memory": memory is not None,
        "n0": int(settings.n0),
        "seed": None if settings.seed is None else int(settings.seed),
        "backend": keras.backend.backend(),
        "versions": versions(),
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
