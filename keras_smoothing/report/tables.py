"""The tables of a page. They never round in favour of a run."""

import html

import numpy as np

from keras_smoothing import evaluation
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.report.figures import key

# With more labels than this, the table is collapsed.
_OPEN = 20
# Settings of a log that the results state themselves.
_SAID = {
    *("alpha", "classifier", "deployable", "group", "noise", "seed"),
    *("stopping", "top_k", "total_alpha"),
}


def run_name(i, name, result):
    """Returns the legend line, name and warning marks of run number i."""
    marks = {
        "evidence": result.deployable is False,
        "selected": result.family > len(result),
    }
    marks = "".join(
        f' <span class="mark">{mark}</span>'
        for mark, is_so in marks.items()
        if is_so
    )
    return f'{key(i)}<span class="name">{html.escape(name)}</span>{marks}'


def share_table(results, counted, radii):
    """Returns a table of shares of examples at radii, one row per run."""
    # Shares are computed at the exact radius, never smaller than its text.
    texts = [at_least(radius, ".6g") for radius in radii]
    rows = []
    for i, (name, result) in enumerate(results.items()):
        shares = evaluation.certified_accuracy(
            result.radius, counted[name], radii
        )
        rows.append(
            [
                run_name(i, name, result),
                *(at_least(share, ".1%") for share in shares),
            ]
        )
    return _table("shares", ["radius", *texts], rows)


def run_table(results):
    """Returns a table of size, averages and cost, one row per run."""
    labelled = all(result.label is not None for result in results.values())
    rows = [
        [run_name(i, name, result), *_figures(result, labelled)]
        for i, (name, result) in enumerate(results.items())
    ]
    heading = ["run", "examples", *(["ACR"] if labelled else [])]
    heading += ["abstained", "median radius", "draws per example", "seconds"]
    return _table("runs", heading, rows)


def label_table(result):
    """Returns a table of correct, wrong and abstained examples per label."""
    kinds = (
        result.correct,
        ~result.correct & ~result.abstained,
        result.abstained,
    )
    rows = []
    for label in np.unique(result.label):
        of_label = result.label == label
        counts = [int(np.sum(kind & of_label)) for kind in kinds]
        rows.append([str(label), *map(str, counts), _bar(counts)])
    totals = [int(np.sum(kind)) for kind in kinds]
    rows.append(["all", *map(str, totals), _bar(totals)])
    heading = ["label", "correct", "wrong", "abstained", ""]
    table = _table("labels", heading, rows)
    if len(rows) - 1 <= _OPEN:
        return table
    summary = f"<summary>{len(rows) - 1} labels</summary>"
    return f"<details>{summary}{table}</details>"


def settings_table(results, settings):
    """Returns a table of settings, one column per run; it marks differences."""
    said = [
        _conditions(result) | _others(settings.get(name) or {})
        for name, result in results.items()
    ]
    if not any(said):
        return '<p class="soft">Noise, alpha and seed are unknown.</p>'
    rows, differ = [], []
    for setting in dict.fromkeys(name for one in said for name in one):
        values = [one.get(setting, "unknown") for one in said]
        rows.append([html.escape(setting), *map(html.escape, values)])
        differ.append(len(set(values)) > 1)
    heading = [
        "",
        *(run_name(i, *named) for i, named in enumerate(results.items())),
    ]
    return _table("settings", heading, rows, differ)


def _figures(result, labelled):
    yield f"{len(result):,}"
    if labelled:
        yield at_least(result.average_certified_radius(), ".4f")
    yield at_most(np.mean(result.abstained), ".1%")
    yield at_least(np.median(result.radius), ".4f")
    if result.num_samples is None:
        yield "unknown"
    else:
        yield at_most(np.mean(result.num_samples), ",.0f")
    yield at_most(np.sum(result.time), ",.1f")


def _conditions(result):
    """Returns the settings that a result states itself, as text by name."""
    if result.noise is None:
        return {}
    least, median, most = np.quantile(result.sigma, [0, 0.5, 1])
    sigma = repr(float(least))
    if least < most:
        least, median = (at_least(s, ".3g") for s in (least, median))
        sigma = f"{least} to {at_most(most, '.3g')}, median {median}"
    return {
        "noise": repr(result.noise),
        "classifier": result.claim.classifier or "unknown",
        "sigma of examples": sigma,
        "distance": result.distance,
        "alpha": repr(result.alpha),
        "top_k": str(result.top_k),
        "stopping": repr(result.stopping),
        "seed": _text(result.seed),
        "deployable": _text(result.deployable),
    }


def _others(settings):
    return {
        name: _text(value)
        for name, value in settings.items()
        if name not in _SAID
    }


def _text(value):
    """Formats a JSON settings value as readable text."""
    if isinstance(value, dict) and "class_name" in value:
        return f"{value['class_name']}: {_text(value['config'])}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(v)}" for name, v in value.items())
    names = {None: "none", True: "yes", False: "no"}
    # A dict lookup would take 1 for True.
    if value is None or isinstance(value, bool):
        return names[value]
    return str(value)


def _bar(counts):
    """Returns a bar with parts for correct, wrong and abstained examples."""
    parts = "".join(
        f'<i class="{kind}" style="flex: {count}"></i>'
        for kind, count in zip(
            ("correct", "wrong", "abstained"), counts, strict=True
        )
    )
    return f'<span class="bar" aria-hidden="true">{parts}</span>'


def _table(kind, heading, rows, differ=None):
    """Returns an HTML table of HTML cells; each row's first is its heading."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heading)
    body = ""
    for i, (first, *cells) in enumerate(rows):
        mark = ' class="differs"' if differ and differ[i] else ""
        body += f'<tr{mark}><th scope="row">{first}</th>' + "".join(
            f"<td>{cell}</td>" for cell in cells
        )
        body += "</tr>"
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )
