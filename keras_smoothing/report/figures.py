"""The figures of a page: SVG in the page's fonts and colours."""

import html
import io
import re

import numpy as np

from keras_smoothing.evaluation.tables import corners

# Placeholders in matplotlib's output, replaced by the page's colours.
_INK, _GRID = "#010203", "#040506"
# Colours of the page. Further runs repeat them and differ by their dashes.
_NUM_COLOURS = 6
# In line widths, a format that SVG and matplotlib share.
_DASHES = ((), (5, 1.5), (1.2, 1.2), (6, 1.5, 1.2, 1.5))
# Maximum number of steps of a curve, also for thousands of examples.
_STEPS = 1_000
_BINS = 24


def _colour(i):
    """Returns the CSS colour of run number i."""
    return f"var(--run-{i % _NUM_COLOURS})"


def curves(runs, ylabel, xlabel):
    """Plots shares of examples against radius, one curve per run.

    Args:
        runs: list of (radius, counted): float and bool arrays, shape
            `(examples,)`.
        ylabel, xlabel: str.

    Returns:
        str, SVG.
    """
    largest = max(radius.max() for radius, _ in runs) or 1.0

    def draw(axes):
        (ax,) = axes
        for i, (radius, counted) in enumerate(runs):
            # Rounds down to the grid: no curve is above its certificates.
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
    return _svg("curves", draw, text, (8, 3.6))


def radii(runs, xlabel):
    """Plots histograms of certified radii, one below the other.

    Args:
        runs: list of float arrays, shape `(examples,)`; 0 for abstentions.
        xlabel: str.

    Returns:
        str, SVG.
    """
    largest = max(radius.max() for radius in runs) or 1.0
    bins = np.linspace(0, largest, _BINS + 1)

    def draw(axes):
        for ax, (i, radius) in zip(axes, enumerate(runs), strict=True):
            _histogram(ax, i, radius[radius > 0], len(radius), bins)
        ax.set(xlabel=xlabel, xlim=(0, largest), ylim=(0, None))

    text = f"Histogram of the {xlabel}, one for each run"
    return _svg("radii", draw, text, _stacked(runs), len(runs))


def draws(runs):
    """Plots histograms of the draws per example, one below the other.

    Args:
        runs: dict from the number of a run to an int array, shape
            `(examples,)`; 0 for examples without draws.

    Returns:
        str, SVG.
    """
    taken = np.concatenate([n[n > 0] for n in runs.values()])
    bins = np.geomspace(0.9 * taken.min(), 1.1 * taken.max(), _BINS + 1)

    def draw(axes):
        for ax, (i, n) in zip(axes, runs.items(), strict=True):
            _histogram(ax, i, n[n > 0], len(n), bins)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
        ax.xaxis.set_minor_formatter(lambda n, _: "")
        ax.set(xlabel="draws", xlim=bins[[0, -1]], ylim=(0, None))

    text = "Histogram of draws per example, one for each run"
    return _svg("draws", draw, text, _stacked(runs), len(runs))


def key(i):
    """Returns the legend line of run number i, to place beside its name."""
    dashes = " ".join(str(2.5 * part) for part in _DASHES[i % len(_DASHES)])
    return (
        '<svg class="key" viewBox="0 0 36 8" aria-hidden="true"><path '
        f'd="M0 4H36" style="stroke: {_colour(i)}" stroke-width="3" '
        f'stroke-dasharray="{dashes or "none"}"/></svg>'
    )


def _placeholder(i):
    """Returns a matplotlib colour that stands for that of run number i."""
    return f"#0a0b{i % _NUM_COLOURS:02x}"


def _line(i):
    return {
        "color": _placeholder(i),
        "linestyle": (0, _DASHES[i % len(_DASHES)]),
        "linewidth": 1.8,
    }


def _stacked(runs):
    """Returns the size, in inches, of a figure with axes for each run."""
    return (5, 0.8 + (2.2 if len(runs) == 1 else 1.1 * len(runs)))


def _histogram(ax, i, values, total, bins):
    shares = np.histogram(values, bins)[0] / total
    ax.stairs(shares, bins, fill=True, color=_placeholder(i), alpha=0.25)
    ax.stairs(shares, bins, **_line(i))
    ax.yaxis.set_major_locator(_ticks(3))
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")


def _ticks(number):
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(number)


def _svg(name, draw, text, size, rows=1):
    """Returns what `draw` plots on rows of axes, as SVG for the page."""
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
        "text.parse_math": False,
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
        draw(
            figure.subplots(rows, squeeze=False, sharex=True, sharey=True)[:, 0]
        )
        buffer = io.StringIO()
        # Omits metadata, which contain addresses and the time.
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    box = re.search(r'viewBox="[^"]*"', svg)[0]
    body = svg[svg.index("</defs>") + len("</defs>") :]
    # Every figure numbers its parts from 1; prefixes make the ids unique.
    body = re.sub(r'id="', f'id="{name}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r"font-family: [^;]*;", "", body)
    body = body.replace(_INK, "currentColor").replace(_GRID, "var(--grid)")
    for i in range(_NUM_COLOURS):
        body = body.replace(_placeholder(i), _colour(i))
    return f'<svg role="img" {box}><title>{html.escape(text)}</title>{body}'
