"""Certificates in notebooks: HTML without scripts or colours."""

import html

import numpy as np

from keras_smoothing import evaluation
from keras_smoothing.certificates.rounding import at_least

# Size of the plot in pixels. The margins hold the text at the axes.
_WIDTH, _HEIGHT = 320, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 24, 40


def to_html(lines, share, axis, radius, counted, radii):
    """HTML with text, a table of shares, and their curve.

    Neither the percentages nor the curve are rounded up.

    Args:
        lines: list of str, the text.
        share: str, the name of the shares.
        axis: str, the name of the radius.
        radius: float64 array, shape `(examples,)`.
        counted: bool array, shape `(examples,)`: which examples count as
            certified.
        radii: float array, shape `(r,)`, the radii of the table.

    Returns:
        str, HTML.
    """
    text = "<br>".join(html.escape(line) for line in lines)
    if not len(radius):
        return f"<p>{text}</p>"
    share, axis = html.escape(share), html.escape(axis)
    rows = "".join(
        f"<tr><td>{name}</td><td>{percent}</td></tr>"
        for name, percent in _shares(radius, counted, radii)
    )
    return (
        f"<div><p>{text}</p>"
        '<div style="display: flex; flex-wrap: wrap; gap: 2em; '
        'align-items: flex-start">'
        f'<table style="color: inherit"><thead>'
        f"<tr><th>{axis}</th><th>{share}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        f"{_curve(share, axis, radius, counted)}</div></div>"
    )


def _shares(radius, counted, radii):
    """Yields radii and shares, as text."""
    for r in radii:
        # The share is for the exact radius; its text is rounded down.
        reached = evaluation.certified_accuracy(radius, counted, r)
        yield at_least(r, ".6g"), at_least(reached, ".1%")


def _curve(share, axis, radius, counted):
    """The share of examples against the radius, as SVG."""
    largest = radius.max() or 1.0
    # In whole pixels, so that the path has at most one step per pixel.
    pixels = np.floor(_WIDTH * radius / largest)
    steps = np.unique(np.append(0.0, pixels[counted]))
    shares = evaluation.certified_accuracy(pixels, counted, steps)
    heights = _TOP + np.ceil(_HEIGHT * (1 - shares))
    path = f"M{_LEFT} {heights[0]:.0f}" + "".join(
        f"V{y:.0f}H{_LEFT + x:.0f}" for x, y in zip(steps, heights, strict=True)
    )
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    marks = "".join(
        f'<text x="{_LEFT - 6}" y="{_TOP + (1 - s) * _HEIGHT + 4:.0f}" '
        f'text-anchor="end">{s:.0%}</text>'
        for s in (0.0, 0.5, 1.0)
    ) + "".join(
        f'<text x="{_LEFT + _WIDTH * r / largest:.0f}" y="{bottom + 15}" '
        f'text-anchor="middle">{at_least(r, ".6g")}</text>'
        for r in evaluation.default_radii(largest)
    )
    return (
        f'<svg role="img" width="{right + _RIGHT}" height="{bottom + _BOTTOM}" '
        'font-size="11" fill="currentColor">'
        f'<text x="{_LEFT}" y="{_TOP - 12}">{share}</text>'
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.4"/>'
        f'<path d="{path}V{bottom}" fill="none" stroke="currentColor" '
        f'stroke-width="1.5"/>{marks}'
        f'<text x="{_LEFT + _WIDTH // 2}" y="{bottom + 33}" '
        f'text-anchor="middle">{axis}</text></svg>'
    )


_COLUMNS = ("index", "label", "prediction", "radius", "p_lower", "sigma")
_COLUMNS += ("volume_radius", "num_samples", "candidate", "time")


def data_frame(result):
    """A `pandas.DataFrame` of a `CertificationResult`, one row per example."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "Data frames need pandas: pip install pandas"
        ) from error
    columns = {
        name: getattr(result, name)
        for name in _COLUMNS
        if getattr(result, name) is not None
    }
    if result.label is not None:
        columns["correct"] = result.correct
    if result.counts is not None:
        columns["counts"] = list(result.counts)
    return pd.DataFrame(columns)
