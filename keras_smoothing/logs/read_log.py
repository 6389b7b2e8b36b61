"""Reads logs, also those of other programs, by the field's six columns.

The columns are found by their names. Papers add their own columns between
them, programs write `True` or `1.0` for 1, and edited or appended files have
byte-order marks, blank lines and repeated headings. None of this changes the
meaning of a row. Rows that contradict themselves are rejected.
"""

import pathlib

import numpy as np

from keras_smoothing.certificates.utils import warn_caller
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.logs.certification_log import rows_of
from keras_smoothing.logs.certification_log import to_claim
from keras_smoothing.logs.log_format import CHAINED
from keras_smoothing.logs.log_format import nonnegative
from keras_smoothing.logs.log_format import number
from keras_smoothing.logs.log_format import parse_lines
from keras_smoothing.logs.log_format import read_settings
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.logs.log_format import unchained
from keras_smoothing.logs.log_format import whole
from keras_smoothing.logs.vote_rows import COLUMNS
from keras_smoothing.results import CertificationResult


def read_log(path):
    """Reads a certification log: one of ours, or any six-column log.

    The tab-separated columns `idx label predict radius correct time` are the
    field's standard. They are found by name; other columns, such as a sigma per
    example, are ignored. `correct` is 0 or 1, or `True` or `False`; times are
    seconds or `H:MM:SS`. Blank lines, byte-order marks and repeated headings
    (in appended logs) are skipped. Papers use radius -1 where nothing is
    certified: such a row is read as an abstention, whatever class it predicts.

    One of our logs has its settings beside it in `<path>.json`. Its vote counts
    are read, too, and the certificates are recomputed from them. Each row ends
    with a hash of the settings and of all rows so far. So reading fails if the
    settings are not those of the rows, or if lines were changed, removed,
    repeated or moved. Logs of earlier versions have no such hashes; they are
    read with a warning.

    Args:
        path: path of the log.

    Returns:
        `CertificationResult`; for a log of pixels or labels, the result that
        `certify` returned.

    Raises:
        ValueError: if the file is missing, cut off, or not a certification
            log; if one of our logs lacks its settings; if rows contradict
            themselves; or if an `idx` occurs twice.

    Example:

    ```python
    import pathlib
    import keras_smoothing as ks

    rows = "idx\\tlabel\\tpredict\\tradius\\tcorrect\\ttime\\n"
    rows += "0\\t3\\t3\\t0.378\\t1\\t15.4\\n"
    pathlib.Path("published.tsv").write_text(rows)
    ks.read_log("published.tsv").certified_accuracy(0.25)
    # 1.0
    ```
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected a certification log. Received: {path} ({error})"
        ) from error
    settings = read_settings(path)
    if settings is None:
        return read_six_columns(path, text)
    if not text.endswith("\n"):
        raise ValueError(
            "Expected a log whose last line is complete. Received: "
            f"{path}, cut off in its last line. The command that wrote it "
            "resumes it."
        )
    claim = to_claim(path, settings)
    if settings["format"] < CHAINED:
        warn_caller(
            f"Rows of format {settings['format']}, in which {path} was written "
            "by an earlier version, are not bound to their settings: whether "
            f"{sidecar_path(path)}, labels or whole rows were changed since "
            "cannot be told."
        )
    else:
        text, _ = unchained(path, text, settings)
    records, result = rows_of(claim).parse_records(path, text, settings, claim)
    if not records:
        raise ValueError(
            f"Expected a log with at least one row. Received: {path}"
        )
    wanted = settings.get("num_examples")
    if wanted is not None and len(records) < wanted:
        warn_caller(
            f"{path} has rows of {len(records)} of {wanted} examples: its run "
            "has not ended, or its last lines were removed."
        )
    return result


# The radius that papers write where nothing is certified.
_NO_RADIUS = -1


def read_six_columns(path, text):
    """Returns the `CertificationResult` of a log that another program wrote.

    Args:
        path: path of the log, for messages.
        text: str, the log.

    Raises:
        ValueError: if it is not a six-column log.
    """
    # An appended file may have a byte-order mark in the middle.
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
    """Returns the index, label, prediction, radius and time of a row."""
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
        # Whatever the prediction: with radius 0 it would count as certified.
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
    """Reads seconds from `15.4` or `0:00:15.4`."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + nonnegative(part)
    return seconds
