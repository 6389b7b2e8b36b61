"""From examples to certificates of several classes each."""

import functools
import math

import numpy as np

from keras_smoothing.certification import component_sampling
from keras_smoothing.certification.enough import check_enough
from keras_smoothing.certification.enough import warn_of_few
from keras_smoothing.certification.header import header
from keras_smoothing.certification.run import run
from keras_smoothing.logs import CertificationLog
from keras_smoothing.statistics.stopping_rule import WINDOW


def certify_components(counter, claim, request, settings):
    """Certificates of examples. See `SmoothedSegmentation.certify`.

    Args:
        counter: `ComponentCounter`, how votes are found.
        claim: `ComponentClaim`, what is to be proved.
        request: `Request`, of which examples.
        settings: `Settings`, how it is run.

    Returns:
        the result that belongs to the claim.
    """
    examples, answers, batch_size = request.open(
        counter,
        window=WINDOW,
        draws=max(settings.n0, claim.n),
        batch_size=settings.batch_size,
    )
    if settings.family_wise:
        if claim.correction is None:
            raise ValueError(
                'Expected correction="bonferroni" or "holm" with '
                "family_wise=True, which is about all certificates. Received: "
                "correction=None"
            )
        claim = claim.shared_by(examples.known_total())
    _check_can_certify(claim, math.prod(answers[:-1]))
    log = CertificationLog(
        settings.log,
        header(
            counter,
            claim,
            settings,
            num_examples=examples.exact_total,
            answers=answers,
            n0=int(settings.n0),
        ),
        claim,
    )
    sample = functools.partial(
        component_sampling.sample,
        counter,
        claim=claim,
        n0=settings.n0,
        seed=log.settings["seed"],
        batch_size=batch_size,
    )
    return run(
        _WithoutPadding(examples, counter), answers, log, sample, settings
    )


class _WithoutPadding:
    """`Examples` in which labels of padding are -1: they do not count."""

    def __init__(self, examples, counter):
        self.total = examples.total
        self._examples = examples
        self._counter = counter

    def windows(self, answers):
        for x, labels, rounding in self._examples.windows(answers):
            if labels[0] is not None:
                padding = self._counter.padding(x)
                labels = list(np.where(padding, np.int32(-1), labels))
            yield x, labels, rounding


def _check_can_certify(claim, components):
    """Raises where nothing can be proved, warns where little can."""
    smallest = claim.smallest_n(components)
    if smallest is None:
        raise ValueError(
            f"Expected a `radius` that {claim.noise} can prove. Received: "
            f"radius={claim.radius}, for which no probability is enough"
        )
    shared = str(claim.alpha)
    if claim.correction is not None:
        shared += f", shared out over {components:,} {claim.component}s"
    check_enough(claim.n, smallest, shared)
    if claim.radius is None:
        warn_of_few(
            claim.n,
            claim.level(components),
            shared,
            claim.noise,
            claim.largest_radius(components),
        )
