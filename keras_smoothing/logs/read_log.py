import pathlib

from keras_smoothing.logs.chain import unchained
from keras_smoothing.logs.claims import rows_of
from keras_smoothing.logs.claims import to_claim
from keras_smoothing.logs.log_format import CHAINED
from keras_smoothing.logs.log_format import read_settings
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.logs.six_columns import read_six_columns
from keras_smoothing.results import result_of
from keras_smoothing.warn_caller import warn_caller


def read_log(path):
    """Reads a certification log: one of ours, or any six-column log.

    The columns `idx label predict radius correct time`, separated by tabs, are
    the field's own. They are found by their names, and other columns, such as
    a sigma of each example, are passed over. `correct` is 0 or 1, or `True` or
    `False`; times are seconds or `H:MM:SS`. Blank lines, a byte-order mark and
    the heading once more, as in a log that was appended to, are skipped. A row
    with radius -1, by which papers say that nothing is certified, is read as an
    abstention, whatever class it predicts.

    Of a log of ours, which has its settings beside it in `<path>.json`, the
    vote counts are read too, and the certificates are computed from them again.
    Each of its rows ends with a hash of the settings and of all rows so far:
    settings that are not those of the rows, and lines that were changed,
    removed, repeated or moved, are refused. Logs of earlier versions have no
    such hashes; they are read with a warning.

    Args:
        path: path of the log.

    Returns:
        `CertificationResult`; of a log of pixels or labels the result that
        `certify` gave.

    Raises:
        ValueError: if the file is missing, cut off, or no such log; for a log
            of ours without its settings, for rows that contradict themselves,
            and for an `idx` that occurs twice.

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
    records = rows_of(claim).parse_records(path, text, settings, claim)
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
    return result_of(claim).from_records(records, claim, settings["seed"])
