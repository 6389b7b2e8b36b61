"""Rows of votes for one class of each example.

The first six columns are the field's own, so that every analysis script reads
them.
"""

import math

import numpy as np

from keras_smoothing import checks
from keras_smoothing.logs.log_format import FORMAT
from keras_smoothing.logs.log_format import parse_rows
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.logs.numbers import integer
from keras_smoothing.logs.numbers import nonnegative
from keras_smoothing.logs.numbers import number
from keras_smoothing.promises import Promise
from keras_smoothing.results import Record
from keras_smoothing.results import result_of
from keras_smoothing.results.record import check_rounding
from keras_smoothing.rounding import at_least
from keras_smoothing.rounding import at_most
from keras_smoothing.statistics.votes import ABSTAIN

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
# By format. Columns of findings follow.
MORE_COLUMNS = {
    3: ("p_lower", "num_samples", "candidate", "nan_draws", "counts", "digest"),
    4: (
        *("p_lower", "num_samples", "candidate", "nan_draws", "scale"),
        *("counts", "digest"),
    ),
    5: (
        *("p_lower", "num_samples", "candidate", "nan_draws", "scale"),
        *("mean_scale", "volume_radius", "counts", "digest"),
    ),
    6: (
        *("p_lower", "num_samples", "candidate", "nan_draws", "scale"),
        *("mean_scale", "volume_radius", "rounding", "counts", "digest"),
    ),
}
# Before those of findings, where there is a memory.
PROMISE_COLUMNS = {
    3: (),
    4: (),
    5: ("promised", "promised_radius", "promised_alpha"),
    6: (
        *("promised", "promised_radius", "promised_alpha", "promised_noise"),
        "memory_alpha",
    ),
}


def check_settings(settings):
    """Raises where the settings of a log do not say what its rows need."""
    checks.positive_int("num_classes", settings["num_classes"])


def heading(record, result):
    """The first line, without its end, of a log of such records."""
    promise = () if record.promise is None else PROMISE_COLUMNS[FORMAT]
    return "\t".join(
        (*COLUMNS, *MORE_COLUMNS[FORMAT], *promise, *record.findings)
    )


def format_row(index, record, result, i):
    """One line, without its end.

    Args:
        index: int, number of the example in the run.
        record: `Record`.
        result: `CertificationResult` that holds the record's certificate.
        i: int, where it does.
    """
    label = -1 if record.label is None else record.label
    prediction = int(result.prediction[i])
    promise = ()
    if record.promise is not None:
        promise = (
            record.promise.prediction,
            repr(record.promise.radius),
            repr(record.promise.alpha),
            record.promise.noise,
            repr(record.memory_alpha),
        )
    return "\t".join(
        str(value)
        for value in (
            index,
            label,
            prediction,
            at_least(result.radius[i], ".6f"),
            int(label >= 0 and prediction == label),
            at_most(record.time, ".6g"),
            at_least(result.p_lower[i], ".9f"),
            record.num_samples,
            record.candidate,
            record.nan_draws,
            repr(float(record.scale)),
            repr(float(record.mean_scale)),
            at_least(result.volume_radius[i], ".6f"),
            repr(float(record.rounding)),
            _format_numbers(record.counts),
            record.digest,
            *promise,
            *map(_format_numbers, record.findings.values()),
        )
    )


def _format_numbers(numbers):
    """An int as it is; an array of them as `index:number`, without zeros."""
    if np.ndim(numbers) == 0:
        return str(int(numbers))
    return " ".join(f"{i}:{numbers[i]}" for i in np.flatnonzero(numbers))


def _parse_numbers(text, size):
    """What `_format_numbers` wrote of an int, or of an array of that size."""
    return integer(text) if text.isdecimal() else _parse_array(text, size)


def _parse_array(text, size):
    numbers = np.zeros(size, np.int64)
    for pair in text.split():
        index, votes = (integer(part) for part in pair.split(":"))
        if not 0 <= index < size or votes < 0:
            raise ValueError(f"class:number expected, {pair!r} received")
        numbers[index] = votes
    return numbers


def _parse_promise(row, scale, classes, stddev):
    """The `Promise` of a row, or None of a log without a memory."""
    if not any(name in row for name in PROMISE_COLUMNS[FORMAT]):
        return None
    promise = Promise(
        integer(row["promised"]),
        number(row["promised_radius"]),
        scale,
        number(row["promised_alpha"]),
        stddev,
        row.get("promised_noise", ""),
    )
    if not (
        ABSTAIN <= promise.prediction < classes
        and 0 <= promise.radius < math.inf
        and 0 < promise.alpha < 1
    ):
        raise ValueError(f"a promise expected, {promise} received")
    return promise


def _parse_memory_alpha(row):
    """What the memory of a row had spent, or None where it does not say."""
    if "memory_alpha" not in row:
        return None
    spent = number(row["memory_alpha"])
    if not 0 <= spent < math.inf:
        raise ValueError(f"a sum of alphas expected, {spent} received")
    return spent


def parse_records(path, text, settings, claim):
    """Records of a log of ours, whose votes prove what its rows say."""
    classes = settings["num_classes"]
    columns = COLUMNS + MORE_COLUMNS[settings["format"]]
    promised = PROMISE_COLUMNS[settings["format"]]
    records, stated = [], []

    def parse(row):
        if integer(row["idx"]) != len(records):
            raise ValueError(
                f"idx {len(records)} expected, {row['idx']} received"
            )
        stated.append(
            (
                integer(row["predict"]),
                number(row["radius"]),
                number(row["p_lower"]),
            )
        )
        label, candidate = integer(row["label"]), integer(row["candidate"])
        num_samples = integer(row["num_samples"])
        counts = _parse_array(row["counts"], classes)
        if counts.sum() > num_samples:
            raise ValueError(f"{num_samples} votes expected, more received")
        if not ABSTAIN <= candidate < classes:
            raise ValueError(f"a class expected, {candidate=} received")
        # All noise had the scale 1 when the format had no column for it.
        scale = number(row.get("scale", "1"))
        mean_scale = number(row.get("mean_scale", row.get("scale", "1")))
        if not 0 < scale <= mean_scale < math.inf:
            raise ValueError(
                f"scales > 0 expected, {scale} and {mean_scale} received"
            )
        # Inputs that float32 does not hold were taken as it rounds them.
        rounding = number(row.get("rounding", "0"))
        check_rounding(rounding)
        promise = _parse_promise(row, mean_scale, classes, claim.noise.stddev)
        if not num_samples and promise is None:
            raise ValueError("draws expected, none received")
        records.append(
            Record(
                label=label if label >= 0 else None,
                candidate=candidate,
                counts=counts,
                num_samples=num_samples,
                nan_draws=integer(row["nan_draws"]),
                scale=scale,
                mean_scale=mean_scale,
                time=nonnegative(row["time"]),
                digest=row["digest"],
                findings={
                    name: _parse_numbers(text, classes)
                    for name, text in row.items()
                    if name not in (*columns, *promised)
                },
                promise=promise,
                rounding=rounding,
                memory_alpha=_parse_memory_alpha(row),
            )
        )

    parse_rows(path, text, columns, parse)
    if records:
        kind = result_of(claim)
        result = kind.from_records(records, claim, settings["seed"])
        proved = (result.prediction, result.radius, result.p_lower)
        # Rounded down, and perhaps by another SciPy.
        same = np.abs(np.array(stated).T - proved) < [[1], [2e-6], [2e-9]]
        if not same.all():
            index = int(np.argmin(same.all(axis=0)))
            raise ValueError(
                f"Expected rows that follow from their votes under the "
                f"settings of {sidecar_path(path)}. Received: row {index} of "
                f"{path}, with predict, radius, p_lower {stated[index]}"
            )
    return records
