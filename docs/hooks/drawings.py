"""Figures as SVG in the fonts and colours of the page, light or dark."""

import io
import re

# What matplotlib draws in this colour takes that of the text of the page.
_INK = "#010203"


def drawing_style():
    """A context in which figures are drawn for pages."""
    import matplotlib as mpl

    mpl.use("agg")
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color")
    return mpl.rc_context(
        {
            "figure.figsize": (7, 3.6),
            "figure.constrained_layout.use": True,
            "svg.fonttype": "none",
            "text.parse_math": False,
            "legend.framealpha": 0,
            "axes.spines.top": False,
            "axes.spines.right": False,
            **dict.fromkeys([*names, "ytick.color"], _INK),
        }
    )


def take_drawings():
    """The open figures, each as HTML; they are closed."""
    import matplotlib.pyplot as plt

    drawings = []
    for number in plt.get_fignums():
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        plt.figure(number).savefig(
            buffer, format="svg", transparent=True, metadata=metadata
        )
        plt.close(number)
        drawings.append(_to_html(buffer.getvalue()))
    return drawings


def _to_html(svg):
    svg = svg[svg.index("<svg") :]
    box, width = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg).group(0, 1)
    box += f' width="{width}pt"'
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = body.replace(_INK, "currentColor")
    # Markdown ends HTML at an empty line.
    body = re.sub(r"\n\s*\n", "\n", body)
    return f'\n<div class="drawing"><svg role="img" {box}>{body}</div>\n\n'
