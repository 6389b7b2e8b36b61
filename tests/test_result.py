import dataclasses
import re
import subprocess
import sys
import xml.etree.ElementTree as xml

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_smoothing as ks
from keras_smoothing import evaluation
from keras_smoothing.certificates import Claim


@pytest.fixture
def result():
    counts = np.array([[990, 10], [600, 400], [500, 500], [1000, 0]])
    return ks.CertificationResult.from_counts(
        np.array([0, 0, 1, ks.ABSTAIN]),
        counts,
        np.full(4, 1_000),
        Claim(ks.noise.Gaussian(0.5), 0.001, ks.FixedSampling(1_000)),
        label=np.array([0, 1, 1, 0]),
        time=np.ones(4),
    )


def test_certificates_from_counts(result):
    np.testing.assert_array_equal(result.prediction, [0, 0, -1, -1])
    np.testing.assert_array_equal(result.correct, [True, False, False, False])
    np.testing.assert_array_equal(result.abstained, [False, False, True, True])
    assert (result.radius[:2] > 0).all() and (result.radius[2:] == 0).all()
    np.testing.assert_allclose(
        result.radius[:2], ks.noise.Gaussian(0.5).radius(result.p_lower[:2])
    )
    types = [result.prediction, result.counts, result.num_samples]
    assert {array.dtype for array in types} == {np.dtype("int64")}
    types = [result.radius, result.p_lower, result.time]
    assert {array.dtype for array in types} == {np.dtype("float64")}


def test_certified_accuracy_counts_radii_that_reach(result):
    reach = result.radius[0]
    assert result.certified_accuracy(0) == 0.25
    assert result.certified_accuracy(reach) == 0.25
    assert result.certified_accuracy(np.nextafter(reach, 9)) == 0
    np.testing.assert_array_equal(
        result.certified_accuracy([[0.0, reach], [9.0, 1e-9]]),
        [[0.25, 0.25], [0.0, 0.25]],
    )
    assert result.average_certified_radius() == pytest.approx(reach / 4)
    with pytest.raises(ValueError, match="Expected radii >= 0"):
        result.certified_accuracy(-0.1)


def test_recertify_equals_certifying_at_that_alpha(digits_model, digits):
    x, y = digits
    settings = dict(n=1_000, seed=0, verbose=0)
    one = digits_model.certify(x, y, alpha=0.001, **settings)
    other = digits_model.certify(x, y, alpha=0.05, **settings)
    again = one.recertify(alpha=0.05)
    np.testing.assert_array_equal(again.radius, other.radius)
    np.testing.assert_array_equal(again.prediction, other.prediction)
    assert again.alpha == 0.05
    assert (again.radius >= one.radius).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        one.recertify(alpha=0)


def test_summary_says_what_was_certified(result, capsys):
    result.summary(radii=[0.0, 0.5])
    text = capsys.readouterr().out
    for part in ("4 examples", "sigma=0.5", "l2", "alpha=0.001", "25.0%"):
        assert part in text
    lines = []
    result.summary(print_fn=lines.append)
    assert "abstained 50.0%" in lines[0]
    assert "4 examples" in repr(result)


def test_summary_of_adaptive_sampling_shows_its_grid(digits_model, digits):
    x, y = digits
    stopping = ks.AdaptiveSampling([0.0, 0.125, 0.375], max_n=1_000)
    result = digits_model.certify(
        x[:9], y[:9], stopping=stopping, seed=0, verbose=0
    )
    lines = []
    result.summary(print_fn=lines.append)
    heading = next(t for t in lines[0].splitlines() if t.startswith("radius"))
    assert heading.split()[3:] == ["0", "0.125", "0.375"]
    draws = f"{np.ceil(result.num_samples.mean()):,.0f} draws per example"
    assert draws in lines[0]


@pytest.mark.slow
def test_statements_say_what_is_proved(digits_model, digits, six_columns):
    x, y = digits
    settings = dict(n=500, alpha=0.01, seed=0, verbose=0)
    text = digits_model.certify(x[:2], y[:2], **settings).statement
    for part in ("1 - 0.01, for each example", "the predicted class at", "l2"):
        assert part in text
    text = digits_model.certify(x[:2], y[:2], top_k=2, **settings).statement
    assert "predicted class among its 2 most probable" in text
    turned = ks.SmoothedModel(
        digits_model.base_model,
        digits_model.noise,
        group=ks.groups.D4("channels_last"),
    )
    text = turned.certify(x[:2], **settings, family_wise=True).statement
    assert "l2 up to D4('channels_last') distance" in text
    assert "1 - 0.005" in text
    sigma = ks.DataDependentSigma(0.1, 0.5, steps=1, num_draws=2)
    with pytest.warns(UserWarning, match="Without a memory"):
        evidence = digits_model.certify(x[:2], sigma=sigma, **settings)
    assert "no promise" in evidence.statement
    assert "no promise" not in text
    assert six_columns.statement is None


def test_plot_draws_the_curve(result):
    matplotlib.use("Agg")
    ax = result.plot()
    assert ax.get_xlabel() == "l2 radius"
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(x, [0, result.radius[0], result.radius[0]])
    np.testing.assert_allclose(y, [0.25, 0.25, 0.0])
    assert result.plot(ax) is ax
    assert len(ax.lines) == 2


def test_examples_keep_their_index(detailed, digits_model, digits):
    x, y = digits
    run = digits_model.certify(x[:5], y[:5], n=100, seed=0, verbose=0)
    np.testing.assert_array_equal(run.index, np.arange(5))
    assert run.index.dtype == np.int64
    some = detailed[[3, 1]]
    for result in (some, some.recertify(0.01), dataclasses.replace(some)):
        np.testing.assert_array_equal(result.index, [60, 20])
    joined = ks.CertificationResult.concatenate([some, detailed[0]])
    np.testing.assert_array_equal(joined.index, [60, 20, 0])
    np.testing.assert_array_equal(joined.to_dataframe()["index"], joined.index)


def test_dataframe_has_a_row_for_each_example(result):
    frame = result.to_dataframe()
    assert len(frame) == 4 and "index" not in frame
    np.testing.assert_array_equal(frame["radius"], result.radius)
    np.testing.assert_array_equal(frame["sigma"], result.sigma)
    np.testing.assert_array_equal(frame["correct"], result.correct)


def test_without_labels_nothing_is_called_correct(result):
    unlabelled = ks.CertificationResult.from_counts(
        result.candidate,
        result.counts,
        result.num_samples,
        result.claim,
        time=result.time,
    )
    for method in ("certified_accuracy", "average_certified_radius"):
        arguments = [0.0] if method == "certified_accuracy" else []
        with pytest.raises(ValueError, match="a result with labels"):
            getattr(unlabelled, method)(*arguments)
    assert "correct" not in unlabelled.to_dataframe()
    unlabelled.summary(print_fn=lambda text: None)


def test_default_radii_are_round():
    np.testing.assert_allclose(
        evaluation.default_radii(0.95), [0, 0.25, 0.5, 0.75]
    )
    assert len(evaluation.default_radii(3.8)) == 8
    np.testing.assert_array_equal(evaluation.default_radii(0.0), [0])


@pytest.mark.slow
def test_plots_and_tables_need_their_extras_only_when_used():
    script = """
import sys
sys.modules["matplotlib"] = sys.modules["pandas"] = None
import numpy as np
import keras_smoothing as ks
result = ks.CertificationResult(
    np.array([1]), np.array([0.5]), np.array([1.0]), label=np.array([1])
)
for method in (result.plot, result.to_dataframe):
    try:
        method()
    except ImportError as error:
        print(error)
"""
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    ).stdout.decode()
    assert "pip install keras_smoothing[plots]" in output
    assert "pip install pandas" in output


def test_family_wise_alpha_is_shared_by_the_examples(digits_model, digits):
    x, y = digits
    settings = dict(n=1_000, seed=0, verbose=0)
    plain = digits_model.certify(x, y, alpha=0.01, **settings)
    shared = digits_model.certify(
        x, y, alpha=0.01, family_wise=True, **settings
    )
    assert shared.alpha == 0.01 / len(x)
    again = plain.recertify(0.01, family_wise=True)
    np.testing.assert_array_equal(again.radius, shared.radius)
    assert again.alpha == shared.alpha
    assert (shared.radius <= plain.radius).all()


def test_family_wise_alpha_needs_the_number_of_examples(digits_model, digits):
    x, _ = digits
    dataset = tf.data.Dataset.from_tensor_slices(x)
    settings = dict(n=500, family_wise=True, verbose=0)
    for known in (dataset, dataset.batch(16, drop_remainder=True)):
        result = digits_model.certify(known, **settings)
        assert result.alpha == 0.001 / len(x)
    # The sizes of batches are not known, nor what a filter lets through.
    for unknown in (dataset.batch(16), dataset.filter(lambda image: True)):
        with pytest.raises(ValueError, match="a known number of examples"):
            digits_model.certify(unknown, **settings)


def test_accuracy_with_confidence_is_a_lower_bound(digits_model, digits):
    x, y = digits
    result = digits_model.certify(x, y, n=2_000, seed=0, verbose=0)
    radii = np.linspace(0, 0.75, 76)
    plain = result.certified_accuracy(radii)
    bound = result.certified_accuracy(radii, confidence=0.99)
    assert (bound <= plain).all() and (bound < plain).any()
    np.testing.assert_array_equal(
        bound, result.recertify(0.01 / len(x)).certified_accuracy(radii)
    )
    for confidence in (0, 1, 1.5):
        with pytest.raises(ValueError, match="argument `confidence`"):
            result.certified_accuracy(radii, confidence=confidence)


@pytest.mark.slow
def test_accuracy_with_confidence_holds_under_shared_draws():
    # 40 copies of one example share all their draws, so they fail together:
    # the worst case for a statement over the test set.
    p, runs, confidence = 0.8, 4_000, 0.9
    rng = np.random.default_rng(0)
    noise = ks.noise.Gaussian(1.0)
    true_radius = float(noise.radius(p))
    claim = Claim(noise, 0.1, ks.FixedSampling(200))
    failures = plain_failures = 0
    for votes in rng.binomial(200, p, runs):
        result = ks.CertificationResult.from_counts(
            np.zeros(40, int),
            np.tile([votes, 200 - votes], (40, 1)),
            np.full(40, 200),
            claim,
            label=np.zeros(40, int),
            time=np.zeros(40),
        )
        # The true share beyond the true radius is 0.
        beyond = np.nextafter(true_radius, 9)
        failures += result.certified_accuracy(beyond, confidence) > 0
        plain_failures += result.certified_accuracy(beyond) > 0
    assert failures <= stats.binom.ppf(0.999, runs, 1 - confidence)
    assert plain_failures > failures


ARRAYS = ("prediction", "radius", "time", "label", "p_lower", "counts")
ARRAYS += ("num_samples", "candidate", "scale", "digest", "index")


@pytest.fixture
def detailed(result):
    """With scales, findings, digests and a seed."""
    return ks.CertificationResult.from_counts(
        result.candidate,
        result.counts,
        result.num_samples,
        result.claim,
        scale=np.array([1.0, 0.5, 2.0, 3.0]),
        findings={"one": np.arange(4), "each": np.arange(8).reshape(4, 2)},
        label=result.label,
        time=np.arange(4.0),
        digest=np.array(["a", "b", "c", "d"]),
        index=np.array([0, 20, 40, 60]),
        seed=7,
    )


@pytest.fixture
def six_columns(result):
    return ks.CertificationResult(
        result.prediction, result.radius, result.time, label=result.label
    )


def assert_same(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.claim, one.seed) == (other.claim, other.seed)
    assert (one.findings is None) == (other.findings is None)
    for name in one.findings or ():
        np.testing.assert_array_equal(one.findings[name], other.findings[name])


@pytest.mark.parametrize(
    "which,examples",
    [
        (slice(2), [0, 1]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        (np.array([True, False, False, True]), [0, 3]),
        ([3, 1, 1], [3, 1, 1]),
        (np.array([], int), []),
        (-1, [3]),
        (np.int64(2), [2]),
    ],
    ids=str,
)
def test_indices_select_examples_as_of_an_array(
    detailed, six_columns, which, examples
):
    selected = detailed[which]
    assert len(selected) == len(examples)
    for name in ARRAYS:
        array = getattr(detailed, name)
        np.testing.assert_array_equal(getattr(selected, name), array[examples])
        assert getattr(selected, name).dtype == array.dtype
    for name, found in detailed.findings.items():
        np.testing.assert_array_equal(selected.findings[name], found[examples])
    assert selected.claim is detailed.claim and selected.seed == 7
    # The same from votes: of each example on its own.
    assert_same(selected.recertify(0.01), detailed.recertify(0.01)[which])
    cut = six_columns[which]
    np.testing.assert_array_equal(cut.radius, six_columns.radius[examples])
    assert cut.counts is cut.findings is cut.claim is None


def test_family_wise_alpha_of_a_selection_is_that_of_the_whole(detailed):
    whole = detailed.recertify(0.01, family_wise=True)
    assert whole[:1].alpha == 0.01 / 4
    for selected in (detailed[:1], detailed[1:][[0]], whole[2], detailed[[]]):
        again = selected.recertify(0.01, family_wise=True)
        assert again.family == selected.family == 4
        assert again.alpha == 0.01 / 4
    # Who chose without looking says so.
    alone = dataclasses.replace(detailed[:1], family=None)
    assert alone.recertify(0.01, family_wise=True).alpha == 0.01
    # More rows than the family are never shared by fewer.
    assert dataclasses.replace(detailed, family=1).family == 4


def test_families_add_up(detailed, six_columns):
    concatenate = ks.CertificationResult.concatenate
    assert concatenate([detailed, detailed]).family == 8
    assert concatenate([detailed[:1], detailed[1:]]).family == 8
    assert concatenate([six_columns[:1], six_columns]).family == 8


def test_the_best_of_many_chosen_afterwards_is_not_certified():
    # The true radius is 0: whatever is certified is wrong.
    p, n, size, runs, alpha = 0.4999, 1_000, 200, 400, 0.05
    claim = Claim(ks.noise.Gaussian(1.0), alpha, ks.FixedSampling(n))
    zeros = np.zeros(size, int)
    failures = plain_failures = 0
    for votes in np.random.default_rng(5).binomial(n, p, (runs, size)):
        result = ks.CertificationResult.from_counts(
            zeros,
            np.stack([votes, n - votes], axis=1),
            np.full(size, n),
            claim,
            label=zeros,
            time=np.zeros(size),
        )
        best = result[[np.argmax(result.p_lower)]]
        failures += best.certified_accuracy(0, confidence=1 - alpha) > 0
        plain_failures += best.certified_accuracy(0) > 0
    assert 0 < failures <= stats.binom.ppf(0.999, runs, alpha)
    # Each at an alpha of its own, one of them is certified almost always.
    assert plain_failures > 0.99 * runs


def test_statements_of_selections_say_what_they_hold_for(detailed):
    assert detailed.statement == detailed.claim.statement
    one = detailed[[2]]
    assert one.statement.startswith(detailed.statement)
    assert "alpha is shared by the 4 that they were chosen" in one.statement
    lines = []
    one.summary(print_fn=lines.append)
    assert "shared by the 4" in " ".join(lines[0].split())
    again = one.recertify(0.01, family_wise=True)
    assert "shared by the 4" in again.statement


@pytest.mark.parametrize(
    "which,message",
    [
        (4, "out of bounds"),
        ([0, -5], "out of bounds"),
        (np.array([True, False]), "did not match"),
        (1.5, "only integers"),
        ("radius", "only integers"),
        ((0, 1), "too many indices"),
        ([[0, 1]], r"Expected a slice.*shape \(1, 2\)"),
        (None, "Expected a slice"),
    ],
    ids=str,
)
def test_indices_that_select_nothing_there_is(result, which, message):
    with pytest.raises(IndexError, match=message):
        result[which]


def test_an_empty_selection_is_a_result(detailed):
    empty = detailed[detailed.label == 5]
    lines = []
    empty.summary(print_fn=lines.append)
    assert lines == [f"0 examples, {detailed._conditions()}"]
    assert lines[0] in empty._repr_html_()
    assert len(empty.recertify(0.01, family_wise=True)) == 0


def test_parts_concatenate_to_the_whole(detailed, six_columns):
    concatenate = ks.CertificationResult.concatenate
    for whole in (detailed, six_columns):
        parts = (whole[:1], whole[1:1], whole[1:])
        assert_same(concatenate(iter(parts)), whole)
        assert_same(concatenate([whole]), whole)
    other = dataclasses.replace(detailed, seed=8)
    assert concatenate([detailed, other]).seed is None
    assert concatenate([detailed, detailed]).seed == 7
    unlabelled = dataclasses.replace(detailed, label=None)
    assert concatenate([unlabelled, unlabelled]).label is None


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(noise=ks.noise.Gaussian(0.25)), "noise=Gaussian(sigma=0.25)"),
        (dict(noise=ks.noise.Laplace(0.5)), "noise=Laplace(scale=0.5)"),
        (dict(alpha=0.01), "alpha=0.01"),
        (dict(stopping=ks.FixedSampling(99)), "stopping=FixedSampling(n=99)"),
        (dict(top_k=2), "top_k=2"),
        (dict(group=ks.groups.D4()), "group=D4('channels_last')"),
    ],
    ids=str,
)
def test_other_claims_do_not_concatenate(detailed, changes, message):
    claim = dataclasses.replace(detailed.claim, **changes)
    other = dataclasses.replace(detailed, claim=claim)
    with pytest.raises(ValueError) as error:
        ks.CertificationResult.concatenate([detailed, detailed, other])
    (name,) = changes
    was = f"{name}={getattr(detailed.claim, name)!r}"
    assert str(error.value).endswith(
        f"Received: {was} in results[0] and {message} in results[2]"
    )


def test_other_kinds_of_results_do_not_concatenate(detailed, six_columns):
    concatenate = ks.CertificationResult.concatenate
    with pytest.raises(ValueError, match="at least one result"):
        concatenate([])
    for changes, message in (
        (dict(label=None), "labels='none' in results.1"),
        (dict(digest=None), "digests='none' in results.1"),
        (dict(index=None), "indices='none' in results.1"),
        (dict(findings={}), r"findings=\[\] in results.1"),
        (dict(counts=detailed.counts[:, :1]), r"classes=\(1,\) in results.1"),
    ):
        other = dataclasses.replace(detailed, **changes)
        with pytest.raises(ValueError, match=message):
            concatenate([detailed, other])
    for mixed in ([detailed, six_columns], [six_columns, detailed]):
        with pytest.raises(ValueError, match="noise='unknown', alpha='unk"):
            concatenate(mixed)


def test_tables_round_down():
    result = ks.CertificationResult(
        np.array([1, 1, ks.ABSTAIN]),
        np.array([0.1, 0.1, 0.0]),
        np.ones(3),
        label=np.ones(3, int),
    )
    # 0.0666... and 66.66...%.
    (line,) = evaluation.table({"run": result}, [0.0]).splitlines()[1:]
    assert line.split() == ["run", "3", "0.0666", "66.6%"]


def parsed(html):
    """Text before the table, the table, and the path of the curve."""
    tree = xml.fromstring(html.replace("<br>", "<br/>"))
    rows = [[cell.text for cell in row] for row in tree.iter("tr")]
    return "".join(tree.find("p").itertext()), rows, list(tree.iter("path"))[1]


def test_html_says_what_the_summary_says(detailed, six_columns):
    for result in (detailed, six_columns):
        lines = []
        result.summary(print_fn=lines.append)
        text, (heading, *rows), _ = parsed(result._repr_html_())
        # What was found beside votes, and scales, have lines of their own.
        said = lines[0].splitlines()
        table = [line.split()[0] for line in said].index("radius")
        assert text == "".join(said[:table])
        assert heading[1] == "certified accuracy"
        radii = [float(radius) for radius, _ in rows]
        columns = said[table].split()[3:]
        assert [f"{radius:.4g}" for radius in radii] == columns
        shares = [float(share.rstrip("%")) / 100 for _, share in rows]
        np.testing.assert_allclose(shares, result.certified_accuracy(radii))
    assert parsed(detailed._repr_html_())[1][0][0] == "l2 radius"
    html = detailed._repr_html_()
    assert "currentColor" in html and "script" not in html and "://" not in html


def test_html_without_labels_counts_what_is_certified(detailed):
    unlabelled = dataclasses.replace(detailed, label=None)
    _, (heading, first, *_), _ = parsed(unlabelled._repr_html_())
    assert heading[1] == "share with at least this radius"
    assert first == ["0", "50.0%"]


def test_html_escapes_its_text(detailed):
    class Hostile(ks.noise.Gaussian):
        norm = "<i>l2</i>"

        def __repr__(self):
            return "<script>&"

    claim = dataclasses.replace(detailed.claim, noise=Hostile(0.5))
    html = dataclasses.replace(detailed, claim=claim)._repr_html_()
    assert "<script" not in html and "<i>" not in html
    text, (heading, *_), _ = parsed(html)
    assert "<script>&" in text and heading[0] == "<i>l2</i> radius"


def test_html_is_nowhere_better_than_the_certificates():
    # A third and a seventh are no whole number of tenths of a percent.
    rng = np.random.default_rng(0)
    for examples in (1, 3, 7, 2_100):
        radius = rng.gamma(2.0, 0.123, examples)
        result = ks.CertificationResult(
            np.where(rng.random(examples) < 0.1, ks.ABSTAIN, 1),
            radius,
            np.ones(examples),
            label=np.where(rng.random(examples) < 0.1, 0, 1),
        )
        html = result._repr_html_()
        assert len(html) < 10_000
        text, (_, *rows), curve = parsed(html)
        for reach, share in rows:
            true = 100 * result.certified_accuracy(float(reach))
            assert true - 0.1 < float(share.rstrip("%")) <= true + 1e-9
        median = float(re.search(r"median radius ([\d.]+)", text)[1])
        assert np.median(radius) - 1e-4 < median <= np.median(radius)
        abstained = float(re.search(r"abstained ([\d.]+)%", text)[1])
        assert abstained >= 100 * np.mean(result.prediction == ks.ABSTAIN)
        # Every corner of the curve, in the units of its axes.
        x, y = 44.0, None
        for command, value in re.findall(r"([VH])([\d.]+)", curve.get("d")):
            x, y = (x, float(value)) if command == "V" else (float(value), y)
            reach, share = (x - 44) / 320 * radius.max(), 1 - (y - 24) / 180
            true = result.certified_accuracy(max(0.0, reach - 1e-9))
            assert share <= true + 1e-9
            # Nor is it much worse, before a step down.
            if command == "H":
                pixel = radius.max() / 320
                assert share > result.certified_accuracy(reach + pixel) - 1 / 90
