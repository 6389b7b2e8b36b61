"""From examples to certificates of one class each."""

import dataclasses
import functools

from keras_smoothing.certification.enough import check_can_certify
from keras_smoothing.certification.evidence import warn_of_evidence
from keras_smoothing.certification.header import header
from keras_smoothing.certification.promising import Promising
from keras_smoothing.certification.promising import bind
from keras_smoothing.certification.promising import check_held
from keras_smoothing.certification.run import run
from keras_smoothing.certification.sampling import sample
from keras_smoothing.logs import CertificationLog


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
    examples, num_classes, batch_size = request.open(
        counter,
        window=claim.stopping.window,
        draws=max(settings.n0, claim.stopping.max_n),
        batch_size=settings.batch_size,
        searcher=searcher,
    )
    claim = _named(claim, counter, searcher, memory)
    if searcher is not None and memory is None:
        warn_of_evidence()
        claim = dataclasses.replace(claim, deployable=False)
    if memory is not None and claim.top_k > 1:
        raise ValueError(
            "Expected top_k=1 with a memory, which promises one class. "
            f"Received: top_k={claim.top_k}"
        )
    if settings.family_wise:
        claim = claim.shared_by(
            examples.known_total(
                "Or certify it as it is, then `recertify(alpha, "
                "family_wise=True)`."
            )
        )
    check_can_certify(claim, num_classes)
    counter = counter.tuned(examples.first, claim)
    head = header(
        counter,
        claim,
        settings,
        num_examples=examples.exact_total,
        num_classes=num_classes,
        sigma=searcher and searcher.get_config(),
        memory=None,
        n0=int(settings.n0),
    )
    if memory is not None:
        bind(memory, head["model"], counter, examples.first.shape[1:])
        head["memory"] = memory.head._asdict()
    log = CertificationLog(settings.log, head, claim)
    sample_all = functools.partial(
        sample,
        counter,
        claim=claim,
        searcher=searcher,
        n0=settings.n0,
        seed=log.settings["seed"],
        batch_size=batch_size,
    )
    promising = None
    if memory is not None:
        check_held(memory, log)
        log.begin()  # Before the memory has anything of the run.
        promising = Promising(
            memory,
            claim,
            no_votes=counter.no_votes(1, num_classes),
            first=log.settings["memory"]["num_promises"],
            run=log.run,
        )
    return run(examples, num_classes, log, sample_all, settings, promising)


def _named(claim, counter, searcher, memory):
    """The claim, with the call that answers as it says."""
    if memory is not None:
        return dataclasses.replace(
            claim,
            classifier=counter.call_in_words("memory=memory"),
            total_alpha=memory.total_alpha,
        )
    arguments = () if searcher is None else ("sigma=sigma",)
    return dataclasses.replace(
        claim, classifier=counter.call_in_words(*arguments)
    )
