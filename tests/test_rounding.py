"""Every number that is stated is rounded to the safe side."""

import dataclasses
import pathlib
import re
import types
from fractions import Fraction

import numpy as np
import pytest

import keras_smoothing as ks
from keras_smoothing import cli
from keras_smoothing import evaluation
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import FixedSampling
from keras_smoothing.certificates import LabelClaim
from keras_smoothing.certificates import MedianClaim
from keras_smoothing.certificates import PixelClaim
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.rounding import exact
from keras_smoothing.certificates.rounding import towards_zero
from keras_smoothing.certify.plan import IntervalPlan
from keras_smoothing.certify.plan import Plan
from keras_smoothing.certify.run import Progress

NASTY = [
    *(0.0, 0.1, 0.25, 0.29, 1 / 3, 2 / 3, 0.57, 0.001, 0.001 / 3, 1e-20),
    *(1 - 1e-17, 1 - 2**-53, 0.12345678, 2.675, 0.99999999, 5e-324, 2e-308),
    *(1e22, 1.7976931348623157e308, 100_000.0, 123456.5, 9.9999995),
]
SPECS = (".4f", ".1%", "+.1%", ",.1f", ".0f", ".4g", ".6g", ".12g")
NOISE = ks.noise.Gaussian(sigma=0.5)
ALPHA = 0.001 / 3


def read(text):
    """What a text says, and one unit of its last place."""
    scale = Fraction(1, 100) if text.endswith("%") else Fraction(1)
    text = text.rstrip("%").replace(",", "")
    mantissa, _, power = text.partition("e")
    _, _, decimals = mantissa.partition(".")
    unit = Fraction(10) ** (int(power or 0) - len(decimals))
    return Fraction(text) * scale, unit * scale


def said(value):
    return Fraction(exact(value))


@pytest.mark.parametrize("spec", SPECS)
def test_text_is_on_the_safe_side_and_within_one_unit(spec):
    rng = np.random.default_rng(0)
    values = [*NASTY, *rng.random(300), *(10 ** rng.uniform(-30, 30, 300))]
    for value in (sign * v for v in values for sign in (1, -1)):
        below, above = at_least(value, spec), at_most(value, spec)
        (low, unit), (high, more) = read(below), read(above)
        # A general form leaves out zeros at the end.
        if spec.endswith("g") and value:
            last = exact(value).adjusted() + 1 - int(spec[1:-1])
            unit = more = Fraction(10) ** last
        assert said(value) - unit < low <= said(value) <= high
        assert high < said(value) + more
        if not spec.endswith("%"):
            below, above = (s.replace(",", "") for s in (below, above))
            assert float(below) <= value <= float(above)
        near = read(towards_zero(value, spec))[0]
        assert near == (low if value >= 0 else high)


def test_what_is_short_stays():
    for value, spec, text in (
        (0.001, ".6g", "0.001"),
        (0.25, ".4g", "0.25"),
        (100_000, ".6g", "100000"),
        (100_000, ",.0f", "100,000"),
        (2**60, ",.0f", f"{2**60:,}"),
        (1.0, ".6g", "1"),
        (1e-20, ".6g", "1e-20"),
        (0.29, ".1%", "29.0%"),
        (np.float32(0.5), ".4f", "0.5000"),
        (np.int64(7), ".4f", "7.0000"),
        (np.inf, ".4f", "inf"),
        (np.nan, ".1%", "nan"),
    ):
        assert at_least(value, spec) == at_most(value, spec) == text
    for digits in (1, 2, 3, 4):
        for i in range(10**digits + 1):
            text = f"{i / 10**digits:.{digits}f}"
            assert at_least(i / 10**digits, f".{digits}f") == text
    assert 1 - exact(0.95) == exact(0.05)


NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?%?")


def check(text, down=(), up=(), exactly=()):
    """Every number of a text is one of these, on its side of it."""
    found = NUMBER.findall(text)
    assert found
    for number in found:
        number = number.rstrip(",")
        value, unit = read(number)
        fine = (
            any(said(v) - unit < value <= said(v) for v in down)
            or any(said(v) <= value < said(v) + unit for v in up)
            or value in map(said, exactly)
        )
        assert fine, f"{number} in {text}"


def without_drawings(html):
    html = re.sub(r"(?s)<(svg|style|footer)\b.*?</\1>", " ", html)
    return re.sub(r"<[^>]*>", " ", html)


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(1)
    count = 7
    radius = rng.uniform(0.1, 1.2, count)
    radius[:3] = 0.12345678, 0.29, 2 / 3
    label = np.arange(count) % 3
    prediction = label.copy()
    prediction[3], prediction[4], radius[4] = 2, ks.ABSTAIN, 0.0
    scale = rng.uniform(0.4, 1.9, count)
    return ks.CertificationResult(
        prediction=prediction,
        radius=radius,
        time=rng.uniform(0, 2, count),
        label=label,
        p_lower=rng.uniform(0.6, 1, count),
        counts=rng.integers(0, 1_000, (count, 3)),
        num_samples=rng.integers(1_000, 2_000, count),
        candidate=label,
        scale=scale,
        mean_scale=scale * 1.234567,
        findings={"disagreed": rng.integers(0, 9, count)},
        digest=np.arange(count).astype(str),
        claim=Claim(NOISE, ALPHA, FixedSampling(2_000)),
        seed=7,
    )


def figures(result, radii):
    """What texts of a result may state, by the side that is safe."""
    draws = np.mean(result.num_samples)
    volume = np.median(result.volume_radius)
    shares = result.certified_accuracy(radii)
    held = [np.mean(~result.abstained & (result.radius >= r)) for r in radii]
    least, median, most = np.quantile(result.sigma, [0, 0.5, 1])
    return dict(
        down=[
            *(*radii, *shares, *held, np.median(result.radius), volume),
            *(result.average_certified_radius(), least, median),
        ],
        up=[
            *(result.alpha, np.mean(result.abstained), draws, most),
            *(result.time.sum(), result.findings["disagreed"].sum()),
            result.findings["disagreed"].sum() / result.num_samples.sum(),
        ],
        # Of the noise, of examples and classes, of "l2" and "1 - alpha".
        exactly=[*range(8), 0.5, result.alpha, 2_000, 1.0],
    )


RADII = [0.1 + 0.2, 1 / 3, 0.12345678, 0.6666666666]


def test_texts_of_a_result(result, tmp_path):
    expected = figures(result, RADII)
    texts = []
    result.summary(RADII, print_fn=texts.append)
    check(texts[0], **expected)
    check(result.statement, **expected)
    check(repr(result), **expected)
    own = figures(result, evaluation.default_radii(result.radius.max()))
    check(
        re.sub("<[^>]*>", " ", result._repr_html_()),
        **own | dict(exactly=[*own["exactly"], 50, 100]),
    )
    path = tmp_path / "page.html"
    result.to_html(path, RADII)
    check(without_drawings(path.read_text()), **expected)
    check(evaluation.table({"run": result}, RADII), **expected)


def test_texts_of_a_comparison(result):
    other = dataclasses.replace(result, radius=result.radius[::-1] * 0.9)
    for confidence in (0.95, 0.99, 0.987654321):
        found = evaluation.compare(
            result, other, RADII, confidence, largest_radius=2.0
        )
        between = [*found.interval.ravel(), *found.acr_interval]
        apart = [*found.difference, found.acr_difference]
        check(
            str(found),
            down=[
                *(*RADII, *found.accuracy.ravel(), *found.acr, confidence),
                *(*found.interval[:, 0], found.acr_interval[0]),
                *(d for d in apart if d >= 0),
            ],
            up=[
                *(*found.p_value, *found.draws, *found.seconds),
                *(*found.interval[:, 1], found.acr_interval[1]),
                *(d for d in apart if d < 0),
                1 - exact(confidence),
            ],
            exactly=[*range(8)],
        )
        assert min(between) < 0 < max(between)


@pytest.mark.parametrize("alpha", [ALPHA, 1e-17, 1e-20, 0.12345678])
@pytest.mark.parametrize(
    "make",
    [
        lambda alpha: Claim(NOISE, alpha, FixedSampling(100)),
        lambda alpha: PixelClaim(NOISE, alpha, 100, "holm", 0.12345678),
        lambda alpha: LabelClaim(NOISE, alpha, 100),
        lambda alpha: MedianClaim(NOISE, alpha, 100, (0.0, 0.1)),
    ],
    ids=("class", "pixels", "labels", "median"),
)
def test_statements(make, alpha):
    text = make(alpha).statement
    assert "at least 1 - " in text
    check(text, down=[0.12345678], up=[alpha], exactly=[1, 0.5])


def test_texts_of_pixels_and_labels():
    rng = np.random.default_rng(2)
    for claim, kind, shape, most in (
        (PixelClaim(NOISE, ALPHA, 100), ks.SegmentationResult, (3, 4, 3), 3),
        (LabelClaim(NOISE, ALPHA, 100), ks.MultiLabelResult, (7, 5), 2),
    ):
        result = kind.from_votes(
            rng.integers(0, most, shape),
            rng.choice([40, 85, 99, 100], shape),
            claim,
            nan_draws=np.zeros(shape, int),
            num_samples=rng.integers(90, 99, len(np.zeros(shape))),
            time=rng.uniform(0, 2, shape[0]),
            label=rng.integers(0, most, shape),
            digest=np.arange(shape[0]).astype(str),
            seed=0,
        )
        texts = []
        result.summary(RADII, print_fn=texts.append)
        shares = [
            share
            for measure in result._measures().values()
            for share in measure(np.array(RADII))
        ]
        check(
            texts[0],
            down=[*RADII, *shares, np.median(result.radius)],
            up=[
                *(ALPHA, np.mean(result.abstained), result.time.sum()),
                np.mean(result.num_samples),
            ],
            exactly=[*range(8), 0.5, ALPHA],
        )


def test_texts_of_intervals():
    rng = np.random.default_rng(3)
    lower = -rng.uniform(0, 3, (5, 3, 2))
    upper = rng.uniform(0, 3, (5, 3, 2))
    upper[:2, 2] = np.inf
    radii = (0.0, 0.1 + 0.2, 0.6666666666)
    result = ks.IntervalResult(
        prediction=np.zeros((5, 2)),
        lower=lower,
        upper=upper,
        num_samples=np.full(5, 100),
        nan_draws=np.zeros(5, int),
        time=rng.uniform(0, 2, 5),
        digest=np.arange(5).astype(str),
        label=rng.random((5, 2)),
        claim=MedianClaim(NOISE, ALPHA, 100, radii),
    )
    texts = []
    result.summary(print_fn=texts.append)
    shown = [*result.width.ravel(), *(result.certified_error(r) for r in radii)]
    shown = np.concatenate([np.ravel(v) for v in shown])
    check(
        texts[0],
        down=[*radii, *(result.bounded[:, i].mean() for i in range(3))],
        up=[*shown[np.isfinite(shown)], result.time.sum(), ALPHA],
        exactly=[*range(6), 0.5, 90, 100, ALPHA],
    )


def test_texts_of_plans():
    plan = Plan(
        n=1_000,
        alpha=ALPHA,
        largest_radius=0.98765432,
        smallest_n=1_234,
        draws=1_234_567,
        seconds=1234.4,
        norm="l2",
        num_audited=345,
        radius_without_audits=1.23451,
    )
    check(
        str(plan),
        up=[0.98765432, 1234.4, 1.23451],
        exactly=[1_000, ALPHA, 1_234, 1_234_567, 345],
    )
    radii = (0.0, 0.12345678, 1 / 3)
    intervals = IntervalPlan(
        n=1_000,
        alpha=ALPHA,
        radii=radii,
        finite=(True, True, False),
        smallest_n=(12.0, 345.0, 1_234_567.0),
        shares=((0.4567891, 0.5432109), (1 / 3, 2 / 3), (0.0, 1.0)),
        draws=5_000,
        seconds=0.2,
        norm="l2",
    )
    check(
        str(intervals),
        down=[0.4567891, 1 / 3],
        up=[0.5432109, 2 / 3, 0.2],
        exactly=[*radii, 12, 345, 1_234_567, 1_000, ALPHA, 5_000],
    )


def test_texts_of_commands(result, tmp_path, capsys):
    logs = [str(tmp_path / name) for name in ("a.tsv", "b.tsv")]
    other = dataclasses.replace(result, radius=result.radius * 0.9)
    for log, shown in zip(logs, (result, other), strict=True):
        rows = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
        for i in range(len(shown)):
            radius, time = shown.radius[i], shown.time[i]
            rows.append(
                f"{i}\t{shown.label[i]}\t{shown.prediction[i]}\t{radius}\t"
                f"{int(shown.correct[i])}\t{time}"
            )
        pathlib.Path(log).write_text("\n".join(rows) + "\n")
    radii = ["--radii", *map(repr, RADII)]
    assert cli.main(["report", logs[0], *radii]) == 0
    check(capsys.readouterr().out, **figures(result, RADII))
    assert cli.main(["compare", *logs, *radii]) == 0
    compared = evaluation.compare(*map(ks.read_log, logs), RADII)
    assert capsys.readouterr().out.endswith(f"{compared}\n")


def test_progress_rounds_down(capsys):
    progress = Progress(3, 1)
    values = np.array([0.99999, 1.0, 0.99998])

    class Result(list):
        def figures(self):
            return {"acr": values}

    progress.on_examples_end(Result(values))
    progress.on_certify_end()
    shown = re.findall(r"acr: ([\d.]+)", capsys.readouterr().out)
    assert shown and set(shown) == {"0.9999"}


def test_attacks_round_up_and_certificates_down():
    correct = np.zeros((1, 3, 7), bool)
    correct[0, :, :5] = True
    strengths = np.array([0.0, 8 / 255, 0.12345678])
    robust = evaluation.RobustAccuracy(
        strengths, np.array([1]), correct, np.zeros((1, 3, 7))
    )
    certified = types.SimpleNamespace(
        radius=np.full(7, 0.05), correct=np.arange(7) < 2
    )
    check(
        robust.table(certified),
        down=[2 / 7, 0],
        up=[5 / 7],
        exactly=[*strengths, 1],
    )
