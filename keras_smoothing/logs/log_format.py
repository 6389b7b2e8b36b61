"""The text of a certification log, and of the settings beside it.

A log is a tab-separated file. A JSON file beside it, `<log>.json`, holds the
settings of the run. The columns depend on the claim, except for the last: it
binds each row to the settings and to the rows before it.
"""

import hashlib
import json
import math
import re

import keras
import numpy as np
import scipy

from keras_smoothing import backend
from keras_smoothing.version import __version__

# Incremented whenever the same settings would give other draws or other rows.
FORMAT = 7

# All readable formats. Before 5, all logs are of votes for one class. Before 7,
# rows are not bound to their settings.
FORMATS = (3, 4, 5, 6, FORMAT)
CHAINED = 7


def sidecar_path(path):
    """Returns the path of a log's settings."""
    return path.with_name(path.name + ".json")


def read_settings(path):
    """Returns the settings beside a log, or None if there are none.

    Raises:
        ValueError: if they are not settings of a certification run.
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
    if not isinstance(settings, dict) or settings.get("format") not in FORMATS:
        raise ValueError(
            "Expected settings of a certification run, in format "
            f"{' or '.join(map(str, FORMATS))}. Received: {sidecar}, "
            "which holds something else"
        )
    return settings


def parse_rows(path, text, columns, parse):
    """Parses the lines below the heading. Errors name the failing line.

    Args:
        path: path of the log, for messages.
        text: str, the log.
        columns: tuple of str, the first columns.
        parse: function of one row, a dict from column to text.

    Returns:
        list of the return values of `parse`.
    """
    lines = text.splitlines()
    names = lines[0].split("\t") if lines else []
    if tuple(names[: len(columns)]) != columns:
        raise ValueError(
            f"Expected a log with columns {' '.join(columns)}. Received: "
            f"{path} with columns {' '.join(names)[:80]!r}"
        )
    return parse_lines(path, names, enumerate(lines[1:], start=2), parse)


def parse_lines(path, names, lines, parse):
    """Parses lines whose columns are known. Errors name the failing line.

    Args:
        path: path of the log, for messages.
        names: list of str, the columns.
        lines: iterable of pairs of line number and text.
        parse: As in `parse_rows`.

    Returns:
        list of the return values of `parse`.
    """
    parsed = []
    for number, line in lines:
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


def serialized(claim):
    """Returns the attributes of a claim, for JSON."""
    return {
        name: keras.saving.serialize_keras_object(value)
        for name, value in claim.get_config().items()
    }


def claim_digest(claim):
    """Returns a hash, of 16 digits, of all attributes of a claim."""

    def said(node):
        if isinstance(node, dict):
            # A class may move to another module; its registered name stays.
            return {k: said(v) for k, v in node.items() if k != "module"}
        return [*map(said, node)] if isinstance(node, list | tuple) else node

    text = json.dumps(said(serialized(claim)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# A float represents every integer up to this one.
_LARGEST = 2**53


def integer(text):
    """Reads an int from decimal digits."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"an integer expected, {text!r} received")
    return whole(text)


def number(text):
    """Reads a finite float from a decimal number."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"a finite number expected, {text!r} received")
    return value


def nonnegative(text):
    """Reads a float from a decimal number that is not below 0."""
    value = number(text)
    if value < 0:
        raise ValueError(f"a number >= 0 expected, {text!r} received")
    return value


def whole(text):
    """Reads an int from a whole number, such as `3` or `3.0`."""
    value = number(text)
    if value != int(value) or abs(value) > _LARGEST:
        raise ValueError(f"a whole number expected, {text!r} received")
    return int(value)


def versions():
    """Returns a dict with the versions of the packages results depend on."""
    # As packages state them: the names of wheels vary.
    return {
        "keras_smoothing": __version__,
        "keras": keras.__version__,
        keras.backend.backend(): backend.VERSION,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


COLUMN = "chain"


class Chain:
    """The hash chain of a log's rows.

    Args:
        settings: dict, the contents of the file beside the log.
        heading: str, the first line without newline and without our column.

    Attributes:
        last: str, the hash so far.
    """

    def __init__(self, settings, heading):
        self._names = heading.split("\t")
        self.last = _hash(settings_digest(settings), heading)

    def follow(self, row):
        """Returns the hash of the next row, without newline and our column."""
        fields = zip(self._names, row.split("\t"), strict=False)
        timeless = [field for name, field in fields if name != "time"]
        self.last = _hash(self.last, "\t".join(timeless))
        return self.last


def settings_digest(settings):
    """Returns a hash of a log's settings, as in the file beside it."""
    return hashlib.sha256(
        json.dumps(settings, sort_keys=True).encode()
    ).hexdigest()


def unchained(path, text, settings):
    """Returns a log without the hashes of its rows, and its `Chain`.

    Args:
        path: path of the log, for messages.
        text: str, complete lines, including the heading.
        settings: dict, the contents of the file beside it.

    Raises:
        ValueError: if a line, or the settings, are not as they were written.
    """
    lines = text.splitlines()
    heading, _, column = lines[0].rpartition("\t")
    if column != COLUMN:
        raise ValueError(
            f"Expected a log with columns of which the last is {COLUMN}, as of "
            f"format {settings['format']} in {sidecar_path(path)}. Received: "
            f"{path}, of which it is {column[:80]!r}"
        )
    plain, chain = [heading], Chain(settings, heading)
    for number, line in enumerate(lines[1:], start=2):
        row, _, stated = line.rpartition("\t")
        if stated != chain.follow(row):
            raise ValueError(
                "Expected lines as they were written, under the settings of "
                f"{sidecar_path(path)}. Received: line {number} of {path}, "
                "which was changed or moved, or the settings or a line before "
                "it were"
            )
        plain.append(row)
    return "\n".join(plain) + "\n", chain


def _hash(before, text):
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()
