"""From examples to intervals of medians."""

import functools

import numpy as np

from keras_smoothing.certification.collecting import bytes_of_one
from keras_smoothing.certification.collecting import collect
from keras_smoothing.certification.header import header
from keras_smoothing.certification.run import run
from keras_smoothing.logs import CertificationLog
from keras_smoothing.rounding import at_most
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import check_fits
from keras_smoothing.voting import free_bytes
from keras_smoothing.warn_caller import warn_caller


def certify_intervals(counter, claim, request, settings):
    """Intervals of examples. See `SmoothedRegression.certify`.

    Args:
        counter: `OutputCollector`, how outputs are found.
        claim: `MedianClaim`, what is to be proved.
        request: `Request`, of which examples.
        settings: `Settings`, how it is run.

    Returns:
        the result that belongs to the claim.
    """
    examples, answers, batch_size = request.open(
        counter,
        window=WINDOW,
        draws=claim.n,
        batch_size=settings.batch_size,
    )
    check_fits(
        bytes_of_one(answers, claim.n),
        free_bytes(),
        f"the outputs of {claim.n:,} draws",
    )
    if settings.family_wise:
        claim = claim.shared_by(examples.known_total())
    _check_enough(claim, answers)
    log = CertificationLog(
        settings.log,
        header(
            counter,
            claim,
            settings,
            num_examples=examples.exact_total,
            answers=answers,
        ),
        claim,
    )
    collect_all = functools.partial(
        collect,
        counter,
        claim=claim,
        seed=log.settings["seed"],
        batch_size=batch_size,
    )
    return run(examples, answers, log, collect_all, settings)


def _check_enough(claim, answers):
    """Raises where no interval can be finite, warns where some cannot."""
    infinite = claim.ranks(answers) > claim.n
    if not infinite.any():
        return
    first = int(np.argmax(infinite))
    radius, needed = claim.radii[first], claim.smallest_n(answers)[first]
    enough = "another radius"
    if needed < np.inf:
        enough = f"n >= {at_most(needed, '.0f')}"
    what = (
        f"{enough} at alpha={claim.alpha}, radius {radius} and "
        f"{int(np.prod(answers))} coordinates (correction={claim.correction})"
    )
    if infinite.all():
        raise ValueError(
            f"Expected {what}: there, and beyond, intervals are infinite. "
            f"Received: n={claim.n}, radii={claim.radii}"
        )
    warn_caller(
        f"With n={claim.n} draws, intervals are infinite from radius {radius} "
        f"on. Finite ones take {what}. See the model's `plan`.",
    )
