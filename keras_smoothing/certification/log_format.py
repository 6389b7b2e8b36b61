"""The text of a certification log, and of the settings beside it.

A log is a tab-separated file whose first six columns are the field's own, so
that every analysis script reads it. A JSON file beside it, `<log>.json`, says
what was run.
"""

import json
import math

import numpy as np

from keras_smoothing.certification.record import Record
from keras_smoothing.certification.record import to_result
from keras_smoothing.certification.result import ABSTAIN

# Counted up whenever the same settings would give other draws or other rows.
FORMAT = 3

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
MORE_COLUMNS = (
    "p_lower",
    "num_samples",
    "candidate",
    "nan_draws",
    "counts",
    "digest",
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
    counts = " ".join(
        f"{c}:{record.counts[c]}" for c in np.flatnonzero(record.counts)
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
            counts,
            record.digest,
        )
    )


def _rounded_down(value, digits):
    """Decimal text of a number that never exceeds it."""
    scale = 10**digits
    units = math.floor(value * scale)
    while units / scale > value:
        units -= 1
    return f"{units / scale:.{digits}f}"


def sidecar_path(path):
    """Where the settings of a log are."""
    return path.with_name(path.name + ".json")


def read_settings(path):
    """The settings of a log, or None where it has none beside it."""
    sidecar = sidecar_path(path)
    try:
        settings = json.loads(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected settings in JSON. Received: {sidecar} ({error})"
        ) from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise ValueError(
            f"Expected settings of a certification run, in format {FORMAT}. "
            f"Received: {sidecar}, which holds something else"
        )
    return settings


def parse_rows(path, text, columns, parse):
    """Parses the lines below the heading, naming the line that fails."""
    lines = text.splitlines()
    heading = lines[0].split("\t") if lines else []
    if tuple(heading[: len(columns)]) != columns:
        raise ValueError(
            f"Expected a log with columns {' '.join(columns)}. Received: "
            f"{path} with columns {' '.join(heading)[:80]!r}"
        )
    parsed = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        try:
            if len(fields) != len(heading):
                raise ValueError(
                    f"{len(heading)} fields expected, {len(fields)} received"
                )
            parsed.append(parse(*fields[: len(columns)]))
        except ValueError as error:
            raise ValueError(
                f"Expected a row of a certification log. Received: line "
                f"{number} of {path} ({error})"
            ) from error
    return parsed


def parse_records(path, text, settings, claim):
    """Records of a log of ours, whose votes prove what its rows say."""
    classes = settings["num_classes"]
    records, stated = [], []

    def parse(idx, label, predict, radius, correct, time, *more):
        if int(idx) != len(records):
            raise ValueError(f"idx {len(records)} expected, {idx} received")
        p_lower, num_samples, candidate, nan_draws, votes, digest = more
        stated.append((int(predict), float(radius), float(p_lower)))
        counts = np.zeros(classes, np.int64)
        for pair in votes.split():
            voted, number = (int(part) for part in pair.split(":"))
            if not 0 <= voted < classes or number < 0:
                raise ValueError(f"class:votes expected, {pair!r} received")
            counts[voted] = number
        if counts.sum() > int(num_samples):
            raise ValueError(f"{num_samples} votes expected, more received")
        if not ABSTAIN <= int(candidate) < classes:
            raise ValueError(f"a class expected, {candidate=} received")
        records.append(
            Record(
                label=int(label) if int(label) >= 0 else None,
                candidate=int(candidate),
                counts=counts,
                num_samples=int(num_samples),
                nan_draws=int(nan_draws),
                time=float(time),
                digest=digest,
            )
        )

    parse_rows(path, text, COLUMNS + MORE_COLUMNS, parse)
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
