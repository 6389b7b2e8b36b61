"""Draws the modules of the package by their imports, as SVG.

    python docs/scripts/modules.py

Writes `docs/assets/modules.svg`. A test compares that file with the imports.
"""

import ast
import functools
import html
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "keras_smoothing"
PICTURE = ROOT / "docs" / "assets" / "modules.svg"
WIDTH, GAP, HEIGHT, ROW = 860, 8, 30, 46
STYLE = """
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1d2329; }
rect { fill: #e4eef8; stroke: #1f6fb8; }
.paper { fill: #fcfcfb; stroke: none; }
"""


def imports():
    """What each module imports of the others: a dict of sets of names."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if module != "__init__":
            modules.setdefault(module, set()).update(_imported(path) - {module})
    return modules


def _imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = (name.split(".") for name in names)
    return {part[1] for part in parts if part[0] == "keras_smoothing"}


def rows(modules):
    """The modules in rows, each above all that it imports, the lowest last."""

    @functools.cache
    def height(module):
        return 1 + max(map(height, modules[module]), default=-1)

    top = max(height(module) for module in modules)
    return [
        sorted(module for module in modules if height(module) == row)
        for row in range(top, -1, -1)
    ]


def picture():
    """The SVG, as a string."""
    modules = imports()
    drawn = []
    for i, row in enumerate(rows(modules)):
        widths = [8 * len(module) + 20 for module in row]
        x = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
        for module, width in zip(row, widths, strict=True):
            below = ", ".join(sorted(modules[module])) or "nothing here"
            drawn.append(
                f"<g><title>{html.escape(f'{module} imports {below}')}</title>"
                f'<rect x="{x:g}" y="{i * ROW + 8}" width="{width}" '
                f'height="{HEIGHT}" rx="5"/><text x="{x + width / 2:g}" '
                f'y="{i * ROW + 28}" text-anchor="middle">{module}</text></g>'
            )
            x += width + GAP
    height = len(rows(modules)) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {WIDTH} {height}">',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            *drawn,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
