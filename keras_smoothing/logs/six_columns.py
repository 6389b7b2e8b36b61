"""Logs of other programs: the six columns of the field, found by their names.

Papers add columns of their own between these, programs write `True` or `1.0`
for 1, and files that were edited or appended to have byte-order marks, blank
lines and second headings. None of this changes what a row says. What
contradicts itself is refused.
"""

import numpy as np

from keras_smoothing.logs.log_format import parse_lines
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.logs.numbers import nonnegative
from keras_smoothing.logs.numbers import number
from keras_smoothing.logs.numbers import whole
from keras_smoothing.logs.vote_rows import COLUMNS
from keras_smoothing.results import CertificationResult
from keras_smoothing.statistics.votes import ABSTAIN

# What papers write for the radius where nothing is certified.
_NO_RADIUS = -1


def read_six_columns(path, text):
    """The `CertificationResult` of a log that another program wrote.

    Args:
        path: path of the log, to be named.
        text: str, the log.

    Raises:
        ValueError: if it is no such log.
    """
    # A file that was appended has its byte-order mark in the middle.
    numbered = enumerate(text.replace("\ufeff", "").split("\n"), start=1)
    lines = [(i, line) for i, line in numbered if line.strip()]
    names = _fields(lines[0][1]) if lines else []
    _check_heading(path, names)
    lines = [(i, line) for i, line in lines if _fields(line) != names]
    seen = set()

    def parse(row):
        index, *certificate = _parse(row)
        if index in seen:
            raise ValueError(f"each idx once expected, {index} received again")
        seen.add(index)
        return index, *certificate

    rows = parse_lines(path, names, lines, parse)
    if not rows:
        raise ValueError(
            f"Expected a log with at least one row. Received: {path}"
        )
    index, label, prediction, radius, time = zip(*rows, strict=True)
    return CertificationResult(
        prediction=np.array(prediction, np.int64),
        radius=np.array(radius, np.float64),
        label=None if max(label) < 0 else np.array(label, np.int64),
        time=np.array(time, np.float64),
        index=np.array(index, np.int64),
    )


def _fields(line):
    return [field.strip() for field in line.split("\t")]


def _check_heading(path, names):
    if "digest" in names and {"counts", "claim"} & set(names):
        raise ValueError(
            f"Expected the settings of a log of this library in "
            f"{sidecar_path(path)}. Received: {path} without such a file. "
            "Copy both."
        )
    missing = [name for name in COLUMNS if name not in names]
    if not missing and len(set(names)) == len(names):
        return
    why = "some of them twice"
    if missing:
        why = f"without {' '.join(missing)}"
    if missing == ["radius"]:
        why = "which are predictions without radii"
    raise ValueError(
        f"Expected a log with columns {' '.join(COLUMNS)}. Received: {path} "
        f"with columns {' '.join(names)[:80]!r}, {why}"
    )


def _parse(row):
    """Index, label, prediction, radius and time of a row."""
    row = {name: field.strip() for name, field in row.items()}
    index, label = whole(row["idx"]), whole(row["label"])
    predict, radius = whole(row["predict"]), number(row["radius"])
    correct = _truth(row["correct"])
    if index < 0:
        raise ValueError(f"idx >= 0 expected, {index} received")
    if min(label, predict) < ABSTAIN:
        raise ValueError(
            f"classes, or {ABSTAIN} for none, expected, label {label} and "
            f"predict {predict} received"
        )
    if correct != (label == predict != ABSTAIN):
        raise ValueError(
            f"label {label} and predict {predict} contradict "
            f"correct={row['correct']}"
        )
    if radius == _NO_RADIUS:
        # Whatever was predicted. At radius 0 it would count as certified.
        predict, radius = ABSTAIN, 0.0
    if radius < 0:
        raise ValueError(
            f"radius >= 0, or {_NO_RADIUS} for none, expected, "
            f"{row['radius']} received"
        )
    if predict == ABSTAIN and radius > 0:
        raise ValueError(f"predict {ABSTAIN} contradicts radius {radius}")
    return index, label, predict, radius, _seconds(row["time"])


def _truth(text):
    value = {"true": 1, "false": 0}.get(text.lower())
    value = number(text) if value is None else value
    if value not in (0, 1):
        raise ValueError(f"correct of 0 or 1 expected, {text} received")
    return bool(value)


def _seconds(text):
    """Seconds of `15.4` or of `0:00:15.4`."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + nonnegative(part)
    return seconds
