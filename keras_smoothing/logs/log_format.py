"""The text of a certification log, and of the settings beside it.

A log is a tab-separated file whose first six columns are the field's own, so
that every analysis script reads it. A JSON file beside it, `<log>.json`, says
what was run.
"""

import dataclasses
import json
import math

import keras
import numpy as np

from keras_smoothing import checks
from keras_smoothing.evaluation.rounding import round_down
from keras_smoothing.promises import Promise
from keras_smoothing.results import Record
from keras_smoothing.results import to_result
from keras_smoothing.statistics import Claim
from keras_smoothing.statistics.votes import ABSTAIN

# Counted up whenever the same settings would give other draws or other rows.
FORMAT = 5

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
}
# Before those, where there is a memory.
PROMISE_COLUMNS = ("promised", "promised_radius", "promised_alpha")


def heading(record):
    """The first line, without its end, of a log of such records."""
    promise = () if record.promise is None else PROMISE_COLUMNS
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
        )
    return "\t".join(
        str(value)
        for value in (
            index,
            label,
            prediction,
            _rounded_down(result.radius[i], 6),
            int(label >= 0 and prediction == label),
            f"{record.time:.6g}",
            _rounded_down(result.p_lower[i], 9),
            record.num_samples,
            record.candidate,
            record.nan_draws,
            repr(float(record.scale)),
            repr(float(record.mean_scale)),
            _rounded_down(result.volume_radius[i], 6),
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
    return int(text) if text.isdecimal() else _parse_array(text, size)


def _parse_array(text, size):
    numbers = np.zeros(size, np.int64)
    for pair in text.split():
        index, number = (int(part) for part in pair.split(":"))
        if not 0 <= index < size or number < 0:
            raise ValueError(f"class:number expected, {pair!r} received")
        numbers[index] = number
    return numbers


def _rounded_down(value, digits):
    """Decimal text of a number that never exceeds it."""
    return f"{round_down(value, digits):.{digits}f}"


def sidecar_path(path):
    """Where the settings of a log are."""
    return path.with_name(path.name + ".json")


def read_settings(path):
    """The settings of a log, or None where it has none beside it.

    Raises:
        ValueError: if they are not those of a certification run.
    """
    sidecar = sidecar_path(path)
    try:
        settings = json.loads(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected settings in JSON. Received: {sidecar} ({error})"
        ) from error
    if not isinstance(settings, dict) or settings.get("format") not in list(
        MORE_COLUMNS
    ):
        raise ValueError(
            "Expected settings of a certification run, in format "
            f"{' or '.join(map(str, MORE_COLUMNS))}. Received: {sidecar}, "
            "which holds something else"
        )
    return settings


def describe(claim):
    """A claim as a part of the settings: its kind, and its attributes."""
    kind = keras.saving.get_registered_name(type(claim))
    return {"claim": kind, **claim.get_config()}


def to_claim(path, settings):
    """The claim of a log with these settings.

    Raises:
        ValueError: if they are damaged, in whatever way.
    """
    try:
        checks.positive_int("num_classes", settings["num_classes"])
        checks.seed(settings["seed"])
        kind = Claim
        if "claim" in settings:  # In format 3 there was one kind of them.
            kind = keras.saving.get_registered_object(settings["claim"])
        names = [field.name for field in dataclasses.fields(kind)]
        if settings["format"] < 5:  # All noise was fixed.
            names.remove("deployable")
        return kind.from_config({name: settings[name] for name in names})
    # What Keras and a constructor raise for damaged settings has any type.
    except Exception as error:
        raise ValueError(
            f"Expected settings of a certification run. Received: "
            f"{sidecar_path(path)} ({type(error).__name__}: {error})"
        ) from error


def parse_rows(path, text, columns, parse):
    """Parses the lines below the heading, naming the line that fails.

    Args:
        path: path of the log, to be named.
        text: str, the log.
        columns: tuple of str, the first columns.
        parse: function of one row, a dict from column to text.

    Returns:
        list of what `parse` returned.
    """
    lines = text.splitlines()
    names = lines[0].split("\t") if lines else []
    if tuple(names[: len(columns)]) != columns:
        raise ValueError(
            f"Expected a log with columns {' '.join(columns)}. Received: "
            f"{path} with columns {' '.join(names)[:80]!r}"
        )
    parsed = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        try:
            if len(fields) != len(names):
                raise ValueError(
                    f"{len(names)} fields expected, {len(fields)} received"
                )
            parsed.append(parse(dict(zip(names, fields, strict=True))))
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"Expected a row of a certification log. Received: line "
                f"{number} of {path} ({error})"
            ) from error
    return parsed


def _parse_promise(row, scale, classes):
    """The `Promise` of a row, or None of a log without a memory."""
    if not any(name in row for name in PROMISE_COLUMNS):
        return None
    prediction, radius, alpha = (row[name] for name in PROMISE_COLUMNS)
    promise = Promise(int(prediction), float(radius), scale, float(alpha))
    if not (
        ABSTAIN <= promise.prediction < classes
        and 0 <= promise.radius < math.inf
        and 0 < promise.alpha < 1
    ):
        raise ValueError(f"a promise expected, {promise} received")
    return promise


def parse_records(path, text, settings, claim):
    """Records of a log of ours, whose votes prove what its rows say."""
    classes = settings["num_classes"]
    columns = COLUMNS + MORE_COLUMNS[settings["format"]]
    records, stated = [], []

    def parse(row):
        if int(row["idx"]) != len(records):
            raise ValueError(
                f"idx {len(records)} expected, {row['idx']} received"
            )
        stated.append(
            (int(row["predict"]), float(row["radius"]), float(row["p_lower"]))
        )
        label, candidate = int(row["label"]), int(row["candidate"])
        num_samples = int(row["num_samples"])
        counts = _parse_array(row["counts"], classes)
        if counts.sum() > num_samples:
            raise ValueError(f"{num_samples} votes expected, more received")
        if not ABSTAIN <= candidate < classes:
            raise ValueError(f"a class expected, {candidate=} received")
        # All noise had the scale 1 when the format had no column for it.
        scale = float(row.get("scale", 1.0))
        mean_scale = float(row.get("mean_scale", scale))
        if not 0 < scale <= mean_scale < math.inf:
            raise ValueError(
                f"scales > 0 expected, {scale} and {mean_scale} received"
            )
        promise = _parse_promise(row, mean_scale, classes)
        if not num_samples and promise is None:
            raise ValueError("draws expected, none received")
        records.append(
            Record(
                label=label if label >= 0 else None,
                candidate=candidate,
                counts=counts,
                num_samples=num_samples,
                nan_draws=int(row["nan_draws"]),
                scale=scale,
                mean_scale=mean_scale,
                time=float(row["time"]),
                digest=row["digest"],
                findings={
                    name: _parse_numbers(text, classes)
                    for name, text in row.items()
                    if name not in (*columns, *PROMISE_COLUMNS)
                },
                promise=promise,
            )
        )

    parse_rows(path, text, columns, parse)
    if records:
        result = to_result(records, claim, settings["seed"])
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
