"""Tables of stored figures: `<!-- table: methods -->` in a page."""

import json
import pathlib
import re

DATA = pathlib.Path(__file__).parents[1] / "data"


def with_tables(markdown):
    """Markdown with the tables of `docs/data` where it asks for them."""
    return re.sub(
        r"^<!-- table: (\w+) -->$",
        lambda found: _table(
            json.loads((DATA / f"{found[1]}.json").read_text())
        ),
        markdown,
        flags=re.M,
    )


def _table(measured):
    columns = measured["columns"]
    rows = [[row[column] for column in columns] for row in measured["rows"]]
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
