"""The text of a certification log, and of the settings beside it.

A log is a tab-separated file. A JSON file beside it, `<log>.json`, says what
was run. What is in a row depends on the claim, but for the last column: it
binds the row to the settings, and to the rows before it.
"""

import json

# Counted up whenever the same settings would give other draws or other rows.
FORMAT = 7

# All that can be read. Those before 5 are of votes for one class. Rows of those
# before 7 do not tell by which settings they were written.
FORMATS = (3, 4, 5, 6, FORMAT)
CHAINED = 7


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
    if not isinstance(settings, dict) or settings.get("format") not in FORMATS:
        raise ValueError(
            "Expected settings of a certification run, in format "
            f"{' or '.join(map(str, FORMATS))}. Received: {sidecar}, "
            "which holds something else"
        )
    return settings


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
    return parse_lines(path, names, enumerate(lines[1:], start=2), parse)


def parse_lines(path, names, lines, parse):
    """Parses lines whose columns are known, naming the line that fails.

    Args:
        path: path of the log, to be named.
        names: list of str, the columns.
        lines: iterable of the number of a line and its text.
        parse: as of `parse_rows`.

    Returns:
        list of what `parse` returned.
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
