"""Certification logs: written row by row, resumed, read.

A log is a tab-separated file whose first six columns are the field's own, so
that every analysis script reads it. A JSON file beside it, `<log>.json`, says
what was run.
"""

import json
import math
import os
import pathlib
import secrets
from typing import NamedTuple

import keras
import numpy as np

from keras_smoothing.certification.result import ABSTAIN
from keras_smoothing.certification.result import CertificationResult

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
MORE_COLUMNS = (
    "p_lower",
    "num_samples",
    "candidate",
    "nan_draws",
    "counts",
    "digest",
)


class Record(NamedTuple):
    """What is known of one example after sampling.

    Attributes:
        label: int or None.
        candidate: int, the selected class; `ABSTAIN` if the model returned NaN.
        counts: int64 array, shape `(classes,)`.
        num_samples: int, draws of the estimate.
        nan_draws: int, draws for which the model returned NaN.
        time: float, seconds.
        digest: str, a hash of the example.
    """

    label: int | None
    candidate: int
    counts: np.ndarray
    num_samples: int
    nan_draws: int
    time: float
    digest: str


class CertificationLog:
    """The records of one run, kept in memory and, given a path, in a log.

    A log that exists is resumed; its last line is dropped if it was cut off
    while it was written. Nothing is written before the first `append`.

    Args:
        path: path of the log, or None.
        settings: dict that JSON holds, all that the certificates depend on. A
            seed of None stands for that of the log that is resumed, or for a
            fresh one from the operating system.
        noise: `keras_smoothing.noise.Noise`.

    Attributes:
        records: list of `Record`.
        settings: dict, with the seed in use.

    Raises:
        ValueError: if the folder is missing, or if the log there is of another
            run, is no log of this library, or is damaged.
    """

    def __init__(self, path, settings, noise):
        self._path = None if path is None else pathlib.Path(path)
        self._noise = noise
        self._end = 0
        self.records = []
        # As JSON gives them back, to be compared with what it gives back.
        self.settings = json.loads(json.dumps(settings))
        if self._path is not None:
            self._open()
        if self.settings["seed"] is None:
            self.settings["seed"] = secrets.randbits(63)

    def append(self, records):
        """Adds the next records of the run; on return they are on disk."""
        first = len(self.records)
        self.records.extend(records)
        if self._path is None:
            return
        result = self.result(first, len(self.records))
        lines = [
            _format(first + i, record, result, i)
            for i, record in enumerate(records)
        ]
        if not self._end:
            self._write_settings()
            lines.insert(0, "\t".join(COLUMNS + MORE_COLUMNS))
        data = ("\n".join(lines) + "\n").encode()
        with open(self._path, "r+b" if self._path.exists() else "xb") as file:
            file.seek(self._end)
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._end += len(data)

    def result(self, start, stop):
        """The certificates of the records `start..stop`."""
        return _to_result(self.records[start:stop], self.settings, self._noise)

    def _open(self):
        if not self._path.parent.is_dir() or self._path.is_dir():
            raise ValueError(
                "Expected argument `log` to be the path of a file in an "
                f"existing folder. Received: log={str(self._path)!r}"
            )
        if not self._path.exists() or not self._path.stat().st_size:
            return
        stored = _read_settings(self._path)
        if stored is None:
            raise ValueError(
                "Expected a log of this library to resume, with settings in "
                f"{_sidecar(self._path)}. Received: {self._path}, which has "
                "none. Choose another path."
            )
        if self.settings["seed"] is None:
            self.settings["seed"] = stored.get("seed")
        for name in {**stored, **self.settings}:
            ours, theirs = self.settings.get(name), stored.get(name)
            if ours != theirs and name != "versions":
                raise ValueError(
                    f"The log {self._path} is of another run. Expected "
                    f"{name}={ours!r}. Received: {name}={theirs!r} in the "
                    "log. Choose another path."
                )
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        self._end = len(whole)
        if whole:
            self.records = _parse(self._path, whole.decode(), stored)

    def _write_settings(self):
        # Before the log, whole or not at all: a log without is refused.
        sidecar = _sidecar(self._path)
        temporary = sidecar.with_name(sidecar.name + ".part")
        temporary.write_text(json.dumps(self.settings, indent=2) + "\n")
        os.replace(temporary, sidecar)


def read_log(path):
    """Reads a certification log: one of ours, or any six-column log.

    The columns `idx label predict radius correct time`, separated by tabs, are
    the field's own; times are seconds or `H:MM:SS`. Of a log of ours the vote
    counts are read too, and the certificates are computed from them again.

    Args:
        path: path of the log.

    Returns:
        `CertificationResult`.

    Raises:
        ValueError: if the file is missing, cut off, or no such log.

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
    settings = _read_settings(path)
    if settings is None:
        return _read_six_columns(path, text)
    if not text.endswith("\n"):
        raise ValueError(
            "Expected a log whose last line is complete. Received: "
            f"{path}, cut off in its last line. The command that wrote it "
            "resumes it."
        )
    records = _parse(path, text, settings)
    if not records:
        raise ValueError(
            f"Expected a log with at least one row. Received: {path}"
        )
    noise = keras.saving.deserialize_keras_object(settings["noise"])
    return _to_result(records, settings, noise)


def _to_result(records, settings, noise):
    """The certificates of a list of `Record`."""
    labels = [record.label for record in records]
    return CertificationResult.from_counts(
        np.array([record.candidate for record in records], np.int64),
        np.array([record.counts for record in records], np.int64),
        np.array([record.num_samples for record in records], np.int64),
        label=None if None in labels else np.array(labels, np.int64),
        time=np.array([record.time for record in records], np.float64),
        noise=noise,
        alpha=settings["alpha"],
        seed=settings["seed"],
    )


def _format(index, record, result, i):
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


def _sidecar(path):
    return path.with_name(path.name + ".json")


def _read_settings(path):
    try:
        settings = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected settings in JSON. Received: {_sidecar(path)} ({error})"
        ) from error
    if not isinstance(settings, dict) or "num_classes" not in settings:
        raise ValueError(
            "Expected settings of a certification run. Received: "
            f"{_sidecar(path)}, which holds something else"
        )
    return settings


def _rows(path, text, columns, parse):
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


def _parse(path, text, settings):
    """Records of a log of ours."""
    classes = settings["num_classes"]
    rows = []

    def parse(idx, label, predict, radius, correct, time, *more):
        if int(idx) != len(rows):
            raise ValueError(f"idx {len(rows)} expected, {idx} received")
        _, num_samples, candidate, nan_draws, votes, digest = more
        counts = np.zeros(classes, np.int64)
        for pair in votes.split():
            label_votes = [int(number) for number in pair.split(":")]
            if len(label_votes) != 2 or not 0 <= label_votes[0] < classes:
                raise ValueError(f"class:votes expected, {pair!r} received")
            counts[label_votes[0]] = label_votes[1]
        if counts.sum() > int(num_samples):
            raise ValueError(f"{num_samples} votes expected, more received")
        rows.append(
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

    _rows(path, text, COLUMNS + MORE_COLUMNS, parse)
    return rows


def _read_six_columns(path, text):
    def parse(idx, label, predict, radius, correct, time):
        label, predict, radius = int(label), int(predict), float(radius)
        if not 0 <= radius < math.inf:
            raise ValueError(f"radius >= 0 expected, {radius} received")
        if int(correct) != (label == predict != ABSTAIN):
            raise ValueError(
                f"label {label} and predict {predict} contradict "
                f"correct={correct}"
            )
        return label, predict, radius, _seconds(time)

    rows = _rows(path, text, COLUMNS, parse)
    if not rows:
        raise ValueError(
            f"Expected a log with at least one row. Received: {path}"
        )
    label, prediction, radius, time = zip(*rows, strict=True)
    return CertificationResult(
        prediction=np.array(prediction, np.int64),
        radius=np.array(radius, np.float64),
        label=None if max(label) < 0 else np.array(label, np.int64),
        time=np.array(time, np.float64),
    )


def _seconds(text):
    """Seconds of `15.4` or of `0:00:15.4`."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
