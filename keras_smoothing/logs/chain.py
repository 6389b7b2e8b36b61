"""A hash that runs from the settings of a log through all of its lines.

Each row ends with the hash of itself and of all before it, the settings first.
So a line that is changed, removed, repeated or moved is found, and settings
that are not those of the rows. Whoever changes a row and all hashes after it
changes the last one, which stands for the whole log: kept or published
elsewhere, it tells that the log is the one that was written. Times are left out
of it, so that whoever repeats a run gets the same.
"""

import hashlib
import json

from keras_smoothing.logs.log_format import sidecar_path

COLUMN = "chain"


class Chain:
    """The hashes of a log, one row after the other.

    Args:
        settings: dict, what is in the file beside the log.
        heading: str, the first line without its end and without our column.

    Attributes:
        last: str, the hash so far.
    """

    def __init__(self, settings, heading):
        self._names = heading.split("\t")
        self.last = _hash(settings_digest(settings), heading)

    def follow(self, row):
        """The hash of the next row, a line without its end and our column."""
        fields = zip(self._names, row.split("\t"), strict=False)
        timeless = [field for name, field in fields if name != "time"]
        self.last = _hash(self.last, "\t".join(timeless))
        return self.last


def settings_digest(settings):
    """A hash of all settings of a log, as they are in the file beside it."""
    return hashlib.sha256(
        json.dumps(settings, sort_keys=True).encode()
    ).hexdigest()


def unchained(path, text, settings):
    """A log without the hashes of its rows, and its `Chain`.

    Args:
        path: path of the log, to be named.
        text: str, whole lines, the heading among them.
        settings: dict, what is in the file beside it.

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
