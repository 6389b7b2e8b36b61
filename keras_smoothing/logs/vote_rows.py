"""Log rows of votes for one class per example.

The first six columns are the field's standard, so that every analysis script
can read them.
"""

import math

import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.logs.log_format import FORMAT
from keras_smoothing.logs.log_format import integer
from keras_smoothing.logs.log_format import nonnegative
from keras_smoothing.logs.log_format import number
from keras_smoothing.logs.log_format import parse_rows
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.memory import Head
from keras_smoothing.memory import Promise
from keras_smoothing.results import Record
from keras_smoothing.results import result_of
from keras_smoothing.results.records import check_rounding

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
_FORMAT_4 = ("p_lower", "num_samples", "candidate", "nan_draws", "scale")
_FORMAT_6 = (*_FORMAT_4, "mean_scale", "volume_radius", "rounding")
# By format. The columns of findings follow these.
MORE_COLUMNS = {
    3: (*_FORMAT_4[:-1], "counts", "digest"),
    4: (*_FORMAT_4, "counts", "digest"),
    5: (*_FORMAT_6[:-1], "counts", "digest"),
    6: (*_FORMAT_6, "counts", "digest"),
    7: (*_FORMAT_6, "counts", "digest"),
}
_PROMISE_5 = ("promised", "promised_radius", "promised_alpha")
_PROMISE_6 = (*_PROMISE_5, "promised_noise", "memory_alpha")
# By format. With a memory, these precede the columns of findings.
PROMISE_COLUMNS = {
    3: (),
    4: (),
    5: _PROMISE_5,
    6: _PROMISE_6,
    7: (
        *_PROMISE_6,
        *("proved_radius", "memory_promises", "memory_queries", "memory_chain"),
    ),
}


def check_settings(settings):
    """Raises if a log's settings lack what its rows need."""
    checks.positive_int("num_classes", settings["num_classes"])


def heading(record, result):
    """Returns the first line, without newline, of a log of such records."""
    promise = () if record.promise is None else PROMISE_COLUMNS[FORMAT]
    return "\t".join(
        (*COLUMNS, *MORE_COLUMNS[FORMAT], *promise, *record.findings)
    )


def format_rows(first, records, result):
    """Formats records as lines without newlines.

    Args:
        first: int, the number of the first record in the run.
        records: list of `Record`.
        result: `CertificationResult` of these records.
    """
    return [
        _format_row(first + i, record, result, i)
        for i, record in enumerate(records)
    ]


def _format_row(index, record, result, i):
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
            at_least(result.promises["proved_radius"][i], ".6f"),
            *record.memory_head,
        )
    return "\t".join(
        str(value)
        for value in (
            index,
            label,
            prediction,
            at_least(result.radius[i], ".6f"),
            _correct(label, prediction),
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


def _correct(label, prediction):
    return int(label >= 0 and prediction == label)


def _format_numbers(numbers):
    """Formats an int, or the nonzero ints of an array as `index:number`."""
    if np.ndim(numbers) == 0:
        return str(int(numbers))
    return " ".join(f"{i}:{numbers[i]}" for i in np.flatnonzero(numbers))


def _parse_numbers(text, size):
    """Reads an int, or an array of that size, that `_format_numbers` wrote."""
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
    """Reads the `Promise` of a row; None for a log without a memory."""
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
    """Reads the alpha that the memory had spent; None if the row lacks it."""
    if "memory_alpha" not in row:
        return None
    spent = number(row["memory_alpha"])
    if not 0 <= spent < math.inf:
        raise ValueError(f"a sum of alphas expected, {spent} received")
    return spent


def _parse_memory_head(row):
    """Reads the memory's `Head`; None if the row lacks it."""
    if "memory_chain" not in row:
        return None
    promises = integer(row["memory_promises"])
    queries = integer(row["memory_queries"])
    if min(promises, queries) < 0:
        raise ValueError(f"numbers >= 0 expected, {promises, queries} received")
    return Head(promises, queries, row["memory_chain"])


def parse_records(path, text, settings, claim):
    """Returns the records of one of our logs, and the result of their votes."""
    classes = settings["num_classes"]
    columns = COLUMNS + MORE_COLUMNS[settings["format"]]
    promised = PROMISE_COLUMNS[settings["format"]]
    records, stated = [], []

    def parse(row):
        if integer(row["idx"]) != len(records):
            raise ValueError(
                f"idx {len(records)} expected, {row['idx']} received"
            )
        label, candidate = integer(row["label"]), integer(row["candidate"])
        prediction = integer(row["predict"])
        if integer(row["correct"]) != _correct(label, prediction):
            raise ValueError(
                f"correct={_correct(label, prediction)} expected of label "
                f"{label} and predict {prediction}, {row['correct']} received"
            )
        stated.append(
            {
                name: number(row[name])
                for name in (
                    "radius",
                    "p_lower",
                    "volume_radius",
                    "proved_radius",
                )
                if name in row
            }
            | {"predict": prediction}
        )
        num_samples = integer(row["num_samples"])
        counts = _parse_array(row["counts"], classes)
        if counts.sum() > num_samples:
            raise ValueError(f"{num_samples} votes expected, more received")
        if not ABSTAIN <= candidate < classes:
            raise ValueError(f"a class expected, {candidate=} received")
        # Formats without this column always used the scale 1.
        scale = number(row.get("scale", "1"))
        mean_scale = number(row.get("mean_scale", row.get("scale", "1")))
        if not 0 < scale <= mean_scale < math.inf:
            raise ValueError(
                f"scales > 0 expected, {scale} and {mean_scale} received"
            )
        # Earlier formats ignored the rounding of inputs to float32.
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
                memory_head=_parse_memory_head(row),
            )
        )

    parse_rows(path, text, columns, parse)
    if not records:
        return records, None
    result = result_of(claim).from_records(records, claim, settings["seed"])
    _check_follows(path, result, stated)
    return records, result


def _check_follows(path, result, stated):
    """Raises if rows disagree with what their votes prove."""
    # Values in rows are rounded down; another SciPy may have computed them.
    tolerance = 2e-6 * np.maximum(1, result.mean_scale / result.scale)
    proved = {
        "predict": (result.prediction, 1),
        "radius": (result.radius, 2e-6),
        "p_lower": (result.p_lower, 2e-9),
        "volume_radius": (result.volume_radius, tolerance),
    }
    if result.promises is not None:
        proved["proved_radius"] = (result.promises["proved_radius"], 2e-6)
    for name in stated[0]:
        ours, near = proved[name]
        differs = np.abs([row[name] for row in stated] - ours) >= near
        if differs.any():
            index = int(np.argmax(differs))
            raise ValueError(
                f"Expected rows that follow from their votes under the "
                f"settings of {sidecar_path(path)}. Received: row {index} of "
                f"{path}, with {name} {stated[index][name]} instead of "
                f"{ours[index]}"
            )
