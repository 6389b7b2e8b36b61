import math
import pathlib

import numpy as np

from keras_smoothing.logs.claims import rows_of
from keras_smoothing.logs.claims import to_claim
from keras_smoothing.logs.log_format import parse_rows
from keras_smoothing.logs.log_format import read_settings
from keras_smoothing.logs.vote_rows import COLUMNS
from keras_smoothing.results import CertificationResult
from keras_smoothing.results import result_of
from keras_smoothing.statistics.votes import ABSTAIN


def read_log(path):
    """Reads a certification log: one of ours, or any six-column log.

    The columns `idx label predict radius correct time`, separated by tabs, are
    the field's own; times are seconds or `H:MM:SS`. Of a log of ours the vote
    counts are read too, and the certificates are computed from them again.

    Args:
        path: path of the log.

    Returns:
        `CertificationResult`; of a log of pixels or labels the result that
        `certify` gave.

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
    settings = read_settings(path)
    if settings is None:
        return _read_six_columns(path, text)
    if not text.endswith("\n"):
        raise ValueError(
            "Expected a log whose last line is complete. Received: "
            f"{path}, cut off in its last line. The command that wrote it "
            "resumes it."
        )
    claim = to_claim(path, settings)
    records = rows_of(claim).parse_records(path, text, settings, claim)
    if not records:
        raise ValueError(
            f"Expected a log with at least one row. Received: {path}"
        )
    return result_of(claim).from_records(records, claim, settings["seed"])


def _read_six_columns(path, text):
    def parse(row):
        label, predict = int(row["label"]), int(row["predict"])
        radius, correct = float(row["radius"]), int(row["correct"])
        if not 0 <= radius < math.inf:
            raise ValueError(f"radius >= 0 expected, {radius} received")
        if correct != (label == predict != ABSTAIN):
            raise ValueError(
                f"label {label} and predict {predict} contradict "
                f"correct={correct}"
            )
        return label, predict, radius, _seconds(row["time"])

    rows = parse_rows(path, text, COLUMNS, parse)
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
