"""From examples to certificates of one class each."""

import dataclasses
import functools

import keras

from keras_smoothing.certification import promising
from keras_smoothing.certification.enough import check_can_certify
from keras_smoothing.certification.evidence import warn_of_evidence
from keras_smoothing.certification.run import run
from keras_smoothing.certification.sampling import sample
from keras_smoothing.logs import CertificationLog
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs.claims import describe
from keras_smoothing.logs.log_format import FORMAT
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
        claim = claim.shared_by(known_total(examples.exact_total))
    check_can_certify(claim, num_classes)
    counter = counter.tuned(examples.first, claim)
    said = header(
        counter,
        claim,
        settings,
        num_classes=num_classes,
        sigma=searcher and searcher.get_config(),
        memory=memory is not None,
    )
    if memory is not None:
        shape = examples.first.shape[1:]
        promising.bind(memory, said["model"], counter, shape)
    log = CertificationLog(settings.log, said, claim)
    sample_all = functools.partial(
        sample,
        counter,
        claim=claim,
        searcher=searcher,
        n0=settings.n0,
        seed=log.settings["seed"],
        batch_size=settings.batch_size,
    )
    certify_window = None
    if memory is not None:
        certify_window = functools.partial(
            promising.certify_new,
            memory,
            claim=claim,
            no_votes=counter.no_votes(1, num_classes),
        )
    return run(
        examples, num_classes, log, sample_all, settings, memory, certify_window
    )


def header(counter, claim, settings, **more):
    """All that certificates depend on, as the log keeps it.

    Args:
        counter: `Counter`.
        claim: what is claimed.
        settings: `Settings`.
        **more: what certificates of this kind depend on besides.

    Returns:
        dict that JSON holds.
    """
    return {
        "format": FORMAT,
        "model": fingerprint(counter.base_model),
        **more,
        **counter.get_config(),
        **describe(claim),
        "n0": int(settings.n0),
        "seed": None if settings.seed is None else int(settings.seed),
        "backend": keras.backend.backend(),
        "versions": versions(),
    }


def known_total(total):
    """The number of examples; raises where it is None."""
    if total is None:
        raise ValueError(
            "Expected a known number of examples, over which a family-wise "
            "alpha is shared. Received: a dataset that does not say it; "
            "one that is not batched may. Or certify it as it is, then "
            "`recertify(alpha, family_wise=True)`."
        )
    return total
