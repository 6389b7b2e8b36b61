"""The page: its headings, explanations and order of sections."""

import html

import numpy as np

from keras_smoothing.evaluation.pairing import are_paired
from keras_smoothing.report import figures
from keras_smoothing.report.pictures import gallery
from keras_smoothing.report.style import STYLE
from keras_smoothing.report.tables import label_table
from keras_smoothing.report.tables import run_name
from keras_smoothing.report.tables import run_table
from keras_smoothing.report.tables import settings_table
from keras_smoothing.report.tables import share_table
from keras_smoothing.version import __version__

_EVIDENCE = """<p class="warning"><b>Evidence without a memory.</b> Runs marked
as evidence chose their noise by the input and kept no memory, so they are no
certificate of a classifier that is deployed. Their radii say something of each
input by itself; an attacker may look for a point nearby where other noise is
chosen.</p>"""

_SELECTED = """<p class="warning"><b>Selected examples.</b> Runs marked as
selected hold some examples of a larger run. If these were chosen by looking at
certificates, more than a share of alpha may be wrong, unless alpha was shared
by all that they were chosen from.</p>"""

_OTHERS = """<p class="warning"><b>Other examples.</b> The runs are not all of
the same examples, with the same labels. So they may also differ because their
examples do.</p>"""

_LABELLED = """Share of examples that are classified correctly, and stay so
under every change of the input that is smaller than the radius."""

_UNLABELLED = """Share of examples whose class stays the same under every change
of the input that is smaller than the radius. There are no labels, so nothing is
said of whether the class is right."""

_STATEMENT = """With probability at least 1 - alpha, for each example on its
own, the smoothed classifier predicts the same class at every point closer than
the radius."""

_KINDS = """<p class="soft"><i class="dot correct"></i>correct
<i class="dot wrong"></i>wrong <i class="dot abstained"></i>abstained</p>"""


def page(results, radii, distance, images, settings):
    """Returns a complete HTML document.

    Args:
        results: dict from name to `CertificationResult`.
        radii: float array, shape `(r,)`.
        distance: str, or None if unknown.
        images: dict from name to float32 array, or empty.
        settings: dict from name to dict.

    Returns:
        str.
    """
    labelled = all(result.label is not None for result in results.values())
    counted = {
        name: result.correct if labelled else ~result.abstained
        for name, result in results.items()
    }
    radius = f"{distance} radius" if distance else "radius"
    parts = [
        _header(results, radius),
        _shares(results, counted, labelled, radii, radius),
        _section("Runs", run_table(results)),
        _distributions(results, radius),
    ]
    if labelled:
        tables = _of_runs(results, lambda name: label_table(results[name]))
        parts.append(
            _section("By label", f'{_KINDS}<div class="columns">{tables}</div>')
        )
    if images:
        pictures = _of_runs(
            results, lambda name: gallery(results[name], images[name])
        )
        parts.append(_section("Examples", pictures))
    parts.append(_section("What is stated", _statements(results)))
    parts.append(_section("Settings", settings_table(results, settings)))
    title = html.escape(", ".join(results))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Certificates: {title}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}{_footer()}</main></body></html>\n"
    )


def _header(results, radius):
    evidence = any(result.deployable is False for result in results.values())
    selected = any(result.family > len(result) for result in results.values())
    others = not are_paired(list(results.values()))
    names = "".join(
        f"<li>{run_name(i, *named)}</li>"
        for i, named in enumerate(results.items())
    )
    return (
        "<header><h1>Certified robustness</h1>"
        f'<p class="soft">{html.escape(radius)}, in the units of the input</p>'
        f'<ul class="legend">{names}</ul>{_EVIDENCE if evidence else ""}'
        f"{_SELECTED if selected else ''}{_OTHERS if others else ''}</header>"
    )


def _shares(results, counted, labelled, radii, radius):
    heading = (
        "Certified accuracy" if labelled else "Share with at least a radius"
    )
    svg = figures.curves(
        [(result.radius, counted[name]) for name, result in results.items()],
        "certified accuracy" if labelled else "share with at least this radius",
        radius,
    )
    return _section(
        heading,
        f"<p>{_LABELLED if labelled else _UNLABELLED}</p>{_chart(svg)}"
        + share_table(results, counted, radii),
    )


def _distributions(results, radius):
    certified = [
        np.where(result.abstained, 0.0, result.radius)
        for result in results.values()
    ]
    radii = _chart(
        figures.radii(certified, radius),
        "Share of examples by radius, of those that are certified.",
    )
    return _section(
        "Radii and draws",
        f'<div class="columns">{radii}{_draws(results)}</div>',
    )


def _draws(results):
    """Returns a histogram, or a sentence if one bar would hold all examples."""
    runs = {
        i: result.num_samples
        for i, result in enumerate(results.values())
        if result.num_samples is not None and result.num_samples.any()
    }
    if not runs:
        return (
            '<p class="soft">The log does not say how many draws it took.</p>'
        )
    taken = np.unique(np.concatenate(list(runs.values())))
    if len(taken) == 1 and len(runs) == len(results):
        return f'<p class="soft">Every example took {taken[0]:,} draws.</p>'
    return _chart(
        figures.draws(runs),
        "Share of examples by draws of the estimate.",
    )


def _of_runs(results, part):
    """Returns, for each run, a heading and the HTML that `part` returns."""
    return "".join(
        f"<div><h3>{run_name(i, name, result)}</h3>{part(name)}</div>"
        for i, (name, result) in enumerate(results.items())
    )


def _statements(results):
    """Returns each run's statement, or a general one if it is unknown."""
    return "".join(
        f"<p>{run_name(i, name, result)}</p>"
        f"<p>{html.escape(result.statement or _STATEMENT)}</p>"
        for i, (name, result) in enumerate(results.items())
    )


def _section(heading, content):
    return f"<section><h2>{heading}</h2>{content}</section>"


def _chart(svg, caption=""):
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="chart">{svg}{caption}</figure>'


def _footer():
    return (
        "<footer><p>Probabilities are over the draws. Accuracies and radii are "
        "rounded down; abstentions, draws and seconds up. ACR is the average "
        "certified radius, wrong and abstained examples counting 0. With top_k "
        "above 1, a class is kept while it is among the top_k most voted."
        f"</p><p>keras_smoothing {__version__}</p></footer>"
    )
