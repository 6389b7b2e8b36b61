import base64
import dataclasses
import html.parser
import io
import re
import shutil
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

import keras_smoothing as ks
from keras_smoothing import cli
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.utils import example_digest
from keras_smoothing.report import figures

VOID = {"meta", "img", "br", "path", "use", "rect"}


class Page(html.parser.HTMLParser):
    """A page as its tables, its images, its ids and its text.

    Attributes:
        tables: list of (class, rows), each row a list of text.
        images: list of dicts of attributes.
        ids: list of str.
        text: str.
    """

    def __init__(self, text):
        super().__init__()
        self.tables, self.images, self.ids, self.text = [], [], [], ""
        self.tags, self._open = set(), []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "img":
            self.images.append(attributes)
        elif tag == "table":
            self.tables.append((attributes["class"], []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][1][-1][-1] += data

    def table(self, kind):
        (rows,) = (rows for name, rows in self.tables if name == kind)
        return rows


def written(path, *arguments, **options):
    ks.report.write_html(path, *arguments, **options)
    return path.read_text(encoding="utf-8")


def six_columns(examples=300, seed=0, label=True):
    rng = np.random.default_rng(seed)
    prediction = np.where(rng.random(examples) < 0.2, -1, 1)
    radius = np.where(prediction < 0, 0.0, rng.gamma(2.0, 0.123, examples))
    return ks.CertificationResult(
        prediction,
        radius,
        rng.random(examples),
        label=rng.integers(0, 3, examples) if label else None,
    )


@pytest.fixture(scope="module")
def images():
    return ks.datasets.load("digits", "test[:40]")


@pytest.fixture
def result(digits_model, images):
    return digits_model.certify(*images, n=500, seed=0, verbose=0)


@pytest.fixture
def evidence(result):
    claim = dataclasses.replace(result.claim, deployable=False)
    return dataclasses.replace(result, claim=claim)


def percent(cell):
    return float(cell.rstrip("%")) / 100


def number(cell):
    return float(cell.replace(",", ""))


def test_tables_say_what_the_results_say(tmp_path):
    # A third and a seventh are no whole number of tenths of a percent.
    runs = {f"run {n}": six_columns(n, seed=n) for n in (3, 7, 2_100)}
    runs["run 7"] = dataclasses.replace(
        runs["run 7"], num_samples=np.array([10, 10, 10, 10, 10, 11, 10])
    )
    radii = [0.0, 0.1, 1 / 3]
    page = Page(written(tmp_path / "page.html", runs, radii))
    heading, *shares = page.table("shares")
    assert [float(radius) for radius in heading[1:]] == [0.0, 0.1, 0.333333]
    heading, *figures = page.table("runs")
    assert heading[1:] == [
        *("examples", "ACR", "abstained"),
        *("median radius", "draws per example", "seconds"),
    ]
    assert len(shares) == len(figures) == 3
    for run, (name, *cells) in zip(runs, shares, strict=True):
        assert name == run
        true = runs[run].certified_accuracy([0.0, 0.1, 0.333333])
        found = np.array([percent(cell) for cell in cells])
        assert (found <= true + 1e-12).all() and (found > true - 0.001).all()
    draws = {"run 3": "unknown", "run 7": "11", "run 2100": "unknown"}
    for run, (name, *cells) in zip(runs, figures, strict=True):
        true = runs[run]
        assert name == run and number(cells[0]) == len(true)
        acr, median = number(cells[1]), number(cells[3])
        average = true.average_certified_radius()
        assert average - 1e-4 < acr <= average
        assert np.median(true.radius) - 1e-4 < median <= np.median(true.radius)
        abstained = np.mean(true.prediction == ks.ABSTAIN)
        assert abstained <= percent(cells[2]) + 1e-12
        assert percent(cells[2]) < abstained + 0.001
        assert cells[4] == draws[run]
        assert true.time.sum() <= number(cells[5]) < true.time.sum() + 0.1


def test_labels_are_counted_with_what_became_of_them(tmp_path):
    result = six_columns()
    (*rows, totals) = Page(
        written(tmp_path / "page.html", {"run": result})
    ).table("labels")[1:]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    counts = np.array([[int(cell) for cell in row[1:4]] for row in rows])
    for label, count in enumerate(counts):
        of_label = result.prediction[result.label == label]
        abstained = np.sum(of_label == ks.ABSTAIN)
        correct = np.sum(of_label == label)
        assert list(count) == [
            *(correct, len(of_label) - correct - abstained, abstained)
        ]
    assert [int(cell) for cell in totals[1:4]] == list(counts.sum(axis=0))
    assert counts.sum() == len(result)


def test_many_labels_are_folded(tmp_path):
    few = six_columns()
    many = dataclasses.replace(few, label=np.arange(300) % 100)
    path = tmp_path / "page.html"
    assert "details" not in Page(written(path, {"run": few})).tags
    page = Page(written(path, {"run": many}))
    assert "details" in page.tags and "100 labels" in page.text
    assert len(page.table("labels")) == 102


def test_draws_are_a_sentence_where_all_took_as_many(result, tmp_path):
    path = tmp_path / "page.html"
    same = written(path, {"one": result, "two": result})
    assert "Every example took 500 draws" in same
    assert same.count("<svg role=") == 2
    # Of a run that does not say it nothing is said.
    text = written(path, {"one": result, "two": six_columns()})
    assert "Every example" not in text and text.count("<svg role=") == 3
    # What an earlier promise answered took none.
    some = dataclasses.replace(
        result, num_samples=np.where(np.arange(40) < 3, 0, 500)
    )
    text = written(path, {"one": some})
    assert "Every example" not in text and text.count("<svg role=") == 3


@pytest.mark.parametrize("label", [True, False])
def test_the_curve_is_nowhere_above_the_certificates(label):
    result = six_columns(2_000, label=label)
    counted = result.correct if label else ~result.abstained
    svg = figures.curves([(result.radius, counted)], "share", "radius")
    # Axes from the corners of the plot, which the clip path gives.
    left, top, width, height = (
        float(re.search(rf'<rect.* {side}="([\d.]+)"', svg)[1])
        for side in ("x", "y", "width", "height")
    )
    (path,) = re.findall(r'<path d="([^"]*)"[^>]*stroke: var\(--run-0\)', svg)
    corners = re.findall(r"([\d.]+) ([\d.]+)", path)
    assert 300 < len(corners) < 2_100
    largest = result.radius.max()
    for x, y in corners:
        reach = (float(x) - left) / width * 1.02 * largest
        share = 1 - (float(y) - top) / height
        reached = counted & (result.radius >= reach - 1e-5)
        assert share <= np.mean(reached) + 1e-6
        # Nor is it much worse, before a step down.
        beyond = counted & (result.radius >= reach + largest / 900)
        assert share > np.mean(beyond) - 1e-6 or share < 1e-6


def test_results_without_labels_have_no_accuracy(tmp_path):
    result = six_columns(label=False)
    text = written(tmp_path / "page.html", {"run": result}, [0.0])
    page = Page(text)
    assert "accuracy" not in page.text.replace("Accuracies", "").lower()
    assert "nothing is\nsaid of whether the class is right" in page.text
    share = percent(page.table("shares")[1][1])
    assert share == pytest.approx(np.mean(~result.abstained), abs=0.001)
    assert "ACR" not in page.table("runs")[0]
    assert "labels" not in [kind for kind, _ in page.tables]


def test_settings_stand_side_by_side(result, tmp_path):
    other = dataclasses.replace(result, seed=7).recertify(0.01)
    settings = {
        "one": {
            "model": "0123abcd",
            "seed": 99,
            "sigma": {"class_name": "Search", "config": {"steps": 3}},
            "versions": {"keras": "3.0", "numpy": "2.0"},
            "memory": False,
            "n0": 1,
        }
    }
    text = written(
        tmp_path / "page.html", {"one": result, "two": other}, settings=settings
    )
    heading, *rows = Page(text).table("settings")
    assert heading == ["", "one", "two"]
    rows = {name: values for name, *values in rows}
    assert rows["noise"] == ["Gaussian(sigma=0.25)"] * 2
    assert rows["alpha"] == ["0.001", "0.01"]
    # Of the result itself, where both know it.
    assert rows["seed"] == ["0", "7"]
    assert rows["model"] == ["0123abcd", "unknown"]
    assert rows["sigma"] == ["Search: steps 3", "unknown"]
    assert rows["versions"][0] == "keras 3.0, numpy 2.0"
    assert rows["memory"][0] == "no" and rows["n0"][0] == "1"
    assert '<tr class="differs"><th scope="row">alpha<' in text
    assert '<tr><th scope="row">noise<' in text


def test_six_column_logs_have_a_page_with_less(tmp_path):
    result = six_columns()
    text = written(tmp_path / "page.html", {"run": result})
    page = Page(text)
    assert "Noise, alpha and seed are unknown" in page.text
    assert "does not say how many draws" in page.text
    assert {kind for kind, _ in page.tables} == {"shares", "runs", "labels"}


def test_a_page_needs_nothing_beside_it(result, images, tmp_path):
    path = tmp_path / "page.html"
    text = written(path, {"one": result, "two": result}, images=images[0])
    page = Page(text)
    assert "http" not in text and "//" not in re.sub('base64,[^"]*', "", text)
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    assert "url(#" in text and "@import" not in text
    assert all(i["src"].startswith("data:image/png") for i in page.images)
    # In the colours of the page, whatever they are.
    assert "currentColor" in text and "#010203" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_parts_of_several_figures_have_names_of_their_own(result, tmp_path):
    varied = dataclasses.replace(
        result, num_samples=np.arange(1, 41, dtype=np.int64)
    )
    text = written(tmp_path / "page.html", {"one": result, "two": varied})
    assert text.count("<svg role=") == 3
    ids = Page(text).ids
    assert len(ids) > 100 and len(set(ids)) == len(ids)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    assert used and used <= set(ids)


def test_names_are_text(result, images, tmp_path):
    class Hostile(ks.noise.Gaussian):
        norm = "<i>l2</i>"

        def __repr__(self):
            return "<script>alert(1)</script>"

    claim = dataclasses.replace(result.claim, noise=Hostile(0.25))
    hostile = dataclasses.replace(result, claim=claim)
    name = '_<b>"&$x^2$'
    text = written(
        tmp_path / "page.html",
        {name: hostile},
        images=images[0],
        settings={name: {"<u>": {"<u>": "<s>"}}},
    )
    page = Page(text)
    assert not page.tags & {"script", "u", "s"}
    assert "<i>l2" not in text and "<b>&" not in text
    assert page.table("runs")[1][0] == name
    rows = {row[0]: row[1] for row in page.table("settings")}
    assert rows["noise"] == "<script>alert(1)</script>"
    assert rows["<u>"] == "<u> <s>"
    # Above the page, on the axes of two figures, and in their titles.
    assert page.text.count("<i>l2</i> radius") == 5
    assert "&amp;lt;" not in text and "&amp;amp;" not in text


def test_evidence_is_marked_wherever_it_is_named(result, evidence, tmp_path):
    both = {"sound": result, "found": evidence}
    page = Page(written(tmp_path / "page.html", both))
    assert "Evidence without a memory" in page.text
    for kind in ("shares", "runs"):
        names = [row[0] for row in page.table(kind)[1:]]
        assert names == ["sound", "found evidence"]
    assert page.table("settings")[0] == ["", "sound", "found evidence"]
    plain = Page(written(tmp_path / "page.html", {"sound": result}))
    assert "evidence" not in plain.text.lower()


def test_selections_are_marked(result, tmp_path):
    both = {"whole": result, "best": result[:3]}
    page = Page(written(tmp_path / "page.html", both))
    assert "Selected examples." in page.text
    names = [row[0] for row in page.table("runs")[1:]]
    assert names == ["whole", "best selected"]
    plain = Page(written(tmp_path / "page.html", {"whole": result}))
    assert "selected" not in plain.text.lower()


def test_runs_of_other_examples_are_said_to_be_so(result, tmp_path):
    def said(**runs):
        return "Other examples." in written(tmp_path / "page.html", runs)

    assert not said(one=result, two=result[::-1])
    assert said(one=result[:20], two=result[20:])
    theirs = dataclasses.replace(six_columns(40), index=np.arange(0, 800, 20))
    assert not said(one=theirs, two=theirs[::-1])
    label = (theirs.label + 1) % 3
    assert said(one=theirs, two=dataclasses.replace(theirs, label=label))
    assert said(one=theirs, two=theirs, three=theirs[1:])


def pixels(image):
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    return matplotlib.image.imread(io.BytesIO(data))


def test_pictures_are_those_of_the_examples(result, images, tmp_path):
    x, y = images
    # Found by digest, in whatever order and among whatever others.
    text = written(
        tmp_path / "page.html",
        {"run": result},
        images=np.concatenate([np.zeros((1, 8, 8, 1)), x[::-1]]),
    )
    shown = Page(text).images
    examples = [
        int(re.match(r"Example (\d+): ", image["alt"])[1]) for image in shown
    ]
    assert len(set(examples)) == len(examples)
    for i, image in zip(examples, shown, strict=True):
        expected = np.broadcast_to(x[i], (8, 8, 3))
        np.testing.assert_allclose(
            pixels(image)[..., :3], expected, atol=0.5 / 255 + 1e-6
        )
        assert f"label {y[i]}" in image["alt"]
        assert ("abstained" in image["alt"]) == result.abstained[i]
        radius = float(image["alt"].split()[-1])
        assert result.radius[i] - 1e-4 < radius <= result.radius[i]
    certified = np.flatnonzero(~result.abstained)
    order = certified[np.argsort(result.radius[certified])]
    most, least = result.radius[examples[:8]], result.radius[examples[8:16]]
    np.testing.assert_array_equal(most, result.radius[order[::-1][:8]])
    np.testing.assert_array_equal(least, result.radius[order[:8]])
    abstained = np.flatnonzero(result.abstained)[:8]
    np.testing.assert_array_equal(examples[16:], abstained)


def test_pictures_have_the_numbers_of_the_examples(result, images, tmp_path):
    text = written(
        tmp_path / "page.html", {"part": result[[30, 7]]}, images=images[0]
    )
    numbers = [int(image["alt"].split()[1][:-1]) for image in Page(text).images]
    assert sorted(numbers) == [7, 30]


def test_colours_and_values_beyond_1_are_pictures(tmp_path):
    x = 255 * np.random.default_rng(0).random((3, 4, 5, 3), "float32")
    result = dataclasses.replace(
        six_columns(3), digest=np.array([example_digest(one) for one in x])
    )
    shown = Page(
        written(tmp_path / "page.html", {"run": result}, images=x)
    ).images
    assert len(shown) == 3
    for image in shown:
        i = int(image["alt"].split(":")[0].split()[1])
        np.testing.assert_allclose(
            pixels(image)[..., :3], x[i] / x.max(), atol=0.5 / 255 + 1e-6
        )


def test_other_images_are_refused(result, images, tmp_path):
    x, _ = images
    path = tmp_path / "page.html"
    moved = x.copy()
    moved[5, 0, 0] += 0.01
    for wrong, message in (
        (moved, "40 images, none of which is example 5 of run"),
        (x[:7], "7 images, none of which is example 7 of run"),
        (x[..., 0], r"Received: shape \(40, 8, 8\)"),
        (x.reshape(40, 4, 4, 4), r"Received: shape \(40, 4, 4, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ks.report.write_html(path, {"run": result}, images=wrong)
    with pytest.raises(ValueError, match="Received: run without, as of a six-"):
        ks.report.write_html(path, {"run": six_columns()}, images=x)
    assert not path.exists()


def test_runs_that_do_not_compare_are_refused(result, tmp_path):
    path = tmp_path / "page.html"
    claim = Claim(ks.noise.Laplace(1.0), 0.1, ks.FixedSampling(100))
    other = dataclasses.replace(six_columns(), claim=claim)
    for runs, message in (
        ({"one": result, "two": other}, "Received: l1 and l2"),
        ({}, "at least one example each"),
        ({"one": result, "two": result[:0]}, "at least one example each"),
        (
            {"one": six_columns(), "two": six_columns(label=False)},
            "two without",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            ks.report.write_html(path, runs)
    assert not path.exists()


def test_a_result_writes_a_page_of_itself(result, images, tmp_path):
    path = tmp_path / "page.html"
    result.to_html(path, images=images[0])
    page = Page(path.read_text())
    assert page.table("runs")[1][0] == "Gaussian(sigma=0.25)"
    assert page.images
    result.to_html(path, radii=[0.125])
    page = Page(path.read_text())
    assert page.table("shares")[0] == ["radius", "0.125"]
    assert not page.images


def test_nothing_certified_is_a_page(tmp_path):
    result = ks.CertificationResult(
        np.array([-1]), np.zeros(1), np.zeros(1), label=np.array([0])
    )
    page = Page(written(tmp_path / "page.html", {"run": result}))
    assert page.table("shares")[1:] == [["run", "0.0%"]]


def test_the_command_writes_a_page(digits_model, images, tmp_path, capsys):
    x, y = images
    log, path = str(tmp_path / "run.tsv"), tmp_path / "page.html"
    digits_model.certify(x, y, n=200, seed=0, log=log, verbose=0)
    command = ["report", log, "--radii", "0", "0.25", "--html", str(path)]
    assert cli.main(command) == 0
    page = Page(path.read_text())
    share = at_least(ks.read_log(log).certified_accuracy(0.25), ".1%")
    assert page.table("shares")[1][2] == share
    rows = {row[0]: row[1] for row in page.table("settings")}
    assert len(rows["model"]) == 64 and "tensorflow" in rows["versions"]
    assert not page.images

    dataset = ["--dataset", "digits", "--split"]
    assert cli.main([*command, *dataset, "test"]) == 0
    assert len(Page(path.read_text()).images) >= 16
    capsys.readouterr()
    assert cli.main([*command, *dataset, "train"]) == 2
    error = capsys.readouterr().err
    assert "none of which is example 0 of run" in error
    assert error.count("\n") == 1
    assert cli.main(["report", log, *dataset, "test"]) == 2
    assert "Expected --dataset with --html" in capsys.readouterr().err

    unlabelled = str(tmp_path / "unlabelled.tsv")
    digits_model.certify(x, n=200, seed=0, log=unlabelled, verbose=0)
    assert cli.main(["report", unlabelled, "--html", str(path)]) == 0
    assert cli.main(["report", unlabelled]) == 2
    assert "a result with labels" in capsys.readouterr().err


@pytest.mark.slow
def test_matplotlib_is_asked_for_by_name(tmp_path):
    script = f"""
import sys
sys.modules["matplotlib"] = None
import numpy as np
import keras_smoothing as ks
result = ks.CertificationResult(
    np.array([1]), np.array([0.5]), np.array([1.0]), label=np.array([1])
)
try:
    result.to_html({str(tmp_path / "page.html")!r})
except ImportError as error:
    print(error)
"""
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    ).stdout.decode()
    assert "pip install keras_smoothing[plots]" in output


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium, in which to look at a page")


@pytest.mark.parametrize("width", [600, 1280])
def test_a_browser_shows_it_light_and_dark(
    width, browser, result, evidence, images, tmp_path
):
    page = tmp_path / "page.html"
    runs = {"sound": result, "found": evidence}
    ks.report.write_html(page, runs, images=images[0])
    means = {}
    for scheme, setting in (("dark", 0), ("light", 1)):
        picture = tmp_path / f"{scheme}.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
        command += [f"--user-data-dir={tmp_path / 'profile'}"]
        command += [f"--blink-settings=preferredColorScheme={setting}"]
        command += [f"--window-size={width},900", f"--screenshot={picture}"]
        subprocess.run(
            [*command, page.as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )
        shown = matplotlib.image.imread(picture)[..., :3]
        assert shown.shape == (900, width, 3)
        means[scheme] = shown.mean()
        # Paper, ink and at least one curve: never one colour, nor two.
        colours = np.unique(shown.reshape(-1, 3), axis=0)
        assert len(colours) > 50
        # The plot is in the upper half; its ink is not that of the paper.
        paper = shown[1, 1]
        inked = np.abs(shown - paper).max(axis=-1) > 0.4
        assert 0.005 < inked.mean() < 0.3
    assert means["dark"] < 0.25 < 0.75 < means["light"]
