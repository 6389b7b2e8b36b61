"""From windows of examples to a log, which is resumed."""

import numpy as np

from keras_smoothing.certification.progress import Progress
from keras_smoothing.certification.spreading import Window
from keras_smoothing.certification.spreading import spread
from keras_smoothing.digests import example_digest


def run(
    examples,
    answers,
    log,
    sample,
    settings,
    promising=None,
):
    """Certifies the examples that a log does not have, whatever is claimed.

    Args:
        examples: `Examples`.
        answers: what the model answers with, as labels are checked by.
        log: `CertificationLog`.
        sample: partial of a function of the parts of a `Window` and `on_draws`
            to a record of each example, and their scales.
        settings: `Settings`.
        promising: `Promising`, where a memory answers, too; or None.

    Returns:
        the result of all examples.
    """
    progress = Progress(examples.total, settings.verbose)
    with spread(
        _new(examples.windows(answers), log, progress),
        sample,
        log.settings["model"],
        cluster=settings.cluster,
        unknown=promising and promising.unknown,
        on_draws=progress.on_draws,
    ) as windows:
        for window, sample_some in windows:
            if promising is None:
                records, _ = sample_some(*window)
            else:
                records = promising.certify(sample_some, *window)
            log.append(records)
            progress.on_examples_end(log.result(-len(records), None))
    progress.on_certify_end()
    return log.result(0, None)


def _new(windows, log, progress):
    """Yields a `Window` of those examples of each that a log does not have.

    Raises:
        ValueError: if the log is of other examples.
    """
    resumed, done = list(log.records), 0
    for x, labels, rounding in windows:
        known = resumed[done : done + len(x)]
        _check_same_examples(known, x, labels, rounding, done)
        index = np.arange(done, done + len(x))
        done += len(x)
        if known:
            progress.on_examples_end(
                log.result(index[0], index[0] + len(known))
            )
        if len(known) < len(x):
            _check_no_more(log, done)
            window = Window(x, labels, index, rounding)
            yield Window(*(part[len(known) :] for part in window))
    if done < len(resumed):
        raise ValueError(
            f"The log has more rows than there are examples. Expected at most "
            f"{done}. Received: {len(resumed)}. `read_log` reads them all."
        )


def _check_no_more(log, examples):
    """Raises where the seed of a log was drawn for fewer examples."""
    most = log.settings["num_examples"]
    if most is not None and examples > most:
        raise ValueError(
            f"Expected at most {most} examples, as the log was begun for. "
            f"Received: {examples} or more. Its seed, which lies beside it, "
            "may be known to who chose the others: they need another log, with "
            "a fresh seed."
        )


def _check_same_examples(known, x, labels, rounding, first):
    """Raises where rows of a log are of other examples than these."""
    for i, record in enumerate(known):
        for name, ours, theirs in (
            ("digest", example_digest(x[i]), record.digest),
            ("label", labels[i], record.label),
            ("rounding", rounding[i], record.rounding),
        ):
            if not _equal(ours, theirs):
                raise ValueError(
                    f"The log is of other examples. Expected {name} {ours} in "
                    f"row {first + i}. Received: {theirs}. Pass the x and y of "
                    "the log, in the same order, or choose another path."
                )


def _equal(one, other):
    """Of None, numbers, texts, or arrays, where NaN is itself."""
    if one is None or other is None:
        return one is other
    if isinstance(one, str):
        return one == other
    return np.array_equal(one, other, equal_nan=np.result_type(one).kind == "f")
