"""Log rows whose answers are arrays: of pixels, labels or numbers.

Readable figures come first, then the whole record. Arrays in it are stored in
NumPy's file format, compressed and base64-encoded.
"""

import base64
import binascii
import io
import typing
import zlib

import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.logs.log_format import CHAINED
from keras_smoothing.logs.log_format import claim_digest
from keras_smoothing.logs.log_format import integer
from keras_smoothing.logs.log_format import nonnegative
from keras_smoothing.logs.log_format import parse_rows
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.results import result_of

_DIGITS = 6
# Parsers of fields that are not arrays.
_PARSE = {int: integer, float: nonnegative, str: str}


def check_settings(settings):
    """Raises if a log's settings lack what its rows need."""
    for size in settings["answers"]:
        checks.positive_int("answers", size)


def heading(record, result):
    """Returns the first line, without newline, of a log of such records."""
    return "\t".join(("idx", *result.figures(), *record._fields))


def format_rows(first, records, result):
    """Formats records as lines without newlines.

    Args:
        first: int, the number of the first record in the run.
        records: list of named tuples.
        result: the result of these records.
    """
    figures = zip(*result.figures().values(), strict=True)
    return [
        "\t".join(
            (
                str(first + i),
                *(at_least(value, f".{_DIGITS}f") for value in values),
                *map(_to_text, record),
            )
        )
        for i, (record, values) in enumerate(zip(records, figures, strict=True))
    ]


def parse_records(path, text, settings, claim):
    """Returns the records of one of our logs, and their result."""
    result_kind = result_of(claim)
    kind = result_kind.record_type
    types = typing.get_type_hints(kind)
    records, stated = [], []
    names, columns = list(kind._fields), ("idx",)
    if settings["format"] < CHAINED:  # Rows held the digest of their claim.
        columns = ("idx", "claim")
    if settings["format"] < 6:  # Earlier formats have no rounding.
        names.remove("rounding")

    def parse(row):
        if integer(row["idx"]) != len(records):
            raise ValueError(
                f"idx {len(records)} expected, {row['idx']} received"
            )
        missing = [name for name in names if name not in row]
        if missing:
            raise ValueError(f"columns {missing} expected, none received")
        values = {name: row.pop(name) for name in names}
        record = kind(
            **{
                name: _PARSE.get(types[name], _to_array)(text)
                for name, text in values.items()
            }
        )
        if hasattr(record, "check"):
            record.check(tuple(settings["answers"]), claim)
        records.append(record)
        if "claim" in columns and row["claim"] != claim_digest(claim):
            raise ValueError("another claim expected, by the settings")
        stated.append(
            {
                name: float(text)
                for name, text in row.items()
                if name not in columns
            }
        )

    parse_rows(path, text, columns, parse)
    if not records:
        return records, None
    result = result_kind.from_records(records, claim, settings["seed"])
    figures = result.figures()
    for i, ours in enumerate(stated):
        # Values in rows are rounded down; another SciPy may have computed them.
        if ours.keys() != figures.keys() or not all(
            abs(ours[name] - figures[name][i]) < 2 * 10.0**-_DIGITS
            for name in ours
        ):
            raise ValueError(
                "Expected rows that follow from their arrays under the "
                f"settings of {sidecar_path(path)}. Received: row {i} of "
                f"{path}, with {ours}"
            )
    return records, result


def _to_text(value):
    if value is None:
        return "-"
    if np.ndim(value) == 0:
        return str(value)
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def _to_array(text):
    """Reads the array, or None, that `_to_text` wrote."""
    if text == "-":
        return None
    try:
        data = zlib.decompress(base64.b64decode(text, validate=True))
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (binascii.Error, zlib.error, EOFError) as error:
        raise ValueError(f"an array expected, {error} received") from error
