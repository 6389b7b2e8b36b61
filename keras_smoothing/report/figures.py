"""The drawings of a page: SVG without ids, fonts or colours of its own."""

import io
import re

import numpy as np

from keras_smoothing.evaluation.plots import corners

# What matplotlib draws in these colours takes those of the page.
_INK, _GRID = "#010203", "#040506"
# The page knows as many; runs beyond differ by their dashes.
NUM_COLOURS = 6
# As SVG and matplotlib both understand them, in widths of the line.
DASHES = ((), (5, 1.5), (1.2, 1.2), (6, 1.5, 1.2, 1.5))
# Thousands of examples take no more than so many steps.
_STEPS = 1_000
_BINS = 24


def colour(i):
    """The CSS of the colour of run number i."""
    return f"var(--run-{i % NUM_COLOURS})"


def curves(runs, ylabel, xlabel):
    """Shares of examples against radius, one curve for each run.

    Args:
        runs: list of (radius, counted): float and bool arrays, shape
            `(examples,)`.
        ylabel, xlabel: str.

    Returns:
        str, SVG.
    """
    largest = max(radius.max() for radius, _ in runs) or 1.0

    def draw(ax):
        for i, (radius, counted) in enumerate(runs):
            # Down to the grid, so that no curve is above its certificates.
            grid = np.floor(_STEPS * radius / largest) * (largest / _STEPS)
            ax.step(
                *corners(np.minimum(grid, radius), counted),
                where="pre",
                **_line(i),
            )
        ax.set(ylim=(0, 1), xlabel=xlabel, ylabel=ylabel)
        ax.set_xlim(0, 1.02 * largest)
        ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")

    text = f"{ylabel} against {xlabel}, a curve for each run"
    return _svg("curves", draw, text, (7.6, 3.4))


def radii(runs, xlabel):
    """Histograms of the radii that are certified.

    Args:
        runs: list of float arrays, shape `(examples,)`; 0 where abstained.
        xlabel: str.

    Returns:
        str, SVG.
    """
    largest = max(radius.max() for radius in runs) or 1.0
    bins = np.linspace(0, largest, _BINS + 1)

    def draw(ax):
        for i, radius in enumerate(runs):
            _histogram(ax, i, radius[radius > 0], len(radius), bins)
        ax.set(xlabel=xlabel, ylabel="share of examples", xlim=(0, largest))

    return _svg("radii", draw, f"Histogram of the {xlabel}", (5, 3))


def draws(runs):
    """Histograms of the draws that examples took.

    Args:
        runs: list of int arrays, shape `(examples,)`, or None where unknown;
            0 where none was taken.

    Returns:
        str, SVG.
    """
    taken = np.concatenate([n[n > 0] for n in runs if n is not None])
    bins = np.geomspace(0.9 * taken.min(), 1.1 * taken.max(), _BINS + 1)

    def draw(ax):
        for i, num_samples in enumerate(runs):
            if num_samples is not None:
                some = num_samples[num_samples > 0]
                _histogram(ax, i, some, len(num_samples), bins)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
        ax.xaxis.set_minor_formatter(lambda n, _: "")
        ax.set(xlabel="draws", ylabel="share of examples", xlim=bins[[0, -1]])

    return _svg("draws", draw, "Histogram of draws per example", (5, 3))


def key(i):
    """The line of run number i, to stand beside its name."""
    dashes = " ".join(str(2.5 * part) for part in DASHES[i % len(DASHES)])
    return (
        '<svg class="key" viewBox="0 0 36 8" aria-hidden="true"><path '
        f'd="M0 4H36" style="stroke: {colour(i)}" stroke-width="3" '
        f'stroke-dasharray="{dashes or "none"}"/></svg>'
    )


def _placeholder(i):
    """A colour for matplotlib that stands for that of run number i."""
    return f"#0a0b{i % NUM_COLOURS:02x}"


def _line(i):
    return {
        "color": _placeholder(i),
        "linestyle": (0, DASHES[i % len(DASHES)]) if i % len(DASHES) else "-",
        "linewidth": 1.8,
    }


def _histogram(ax, i, values, total, bins):
    shares = np.histogram(values, bins)[0] / total
    ax.stairs(shares, bins, fill=True, color=_placeholder(i), alpha=0.15)
    ax.stairs(shares, bins, **_line(i))
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")


def _svg(name, draw, text, size):
    """What `draw` draws on axes, as SVG to stand in a page."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Reports need matplotlib: pip install keras_smoothing[plots]"
        ) from error
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "path.simplify": False,
        "font.size": 10,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor"), _INK
        ),
        **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
        "grid.color": _GRID,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        # Without metadata, which names addresses and the time of day.
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    box = re.search(r'viewBox="[^"]*"', svg)[0]
    body = svg[svg.index("</defs>") + len("</defs>") :]
    # Every figure numbers its parts from 1: names keep them apart.
    body = re.sub(r'id="', f'id="{name}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r"font-family: [^;]*;", "", body)
    body = body.replace(_INK, "currentColor").replace(_GRID, "var(--grid)")
    for i in range(NUM_COLOURS):
        body = body.replace(_placeholder(i), colour(i))
    return f'<svg role="img" {box}><title>{text}</title>{body}'
