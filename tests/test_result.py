import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_smoothing as ks
from keras_smoothing import evaluation
from keras_smoothing.statistics import Claim


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
    draws = f"{result.num_samples.mean():,.0f} draws per example"
    assert draws in lines[0]


def test_plot_draws_the_curve(result):
    matplotlib.use("Agg")
    ax = result.plot()
    assert ax.get_xlabel() == "l2 radius"
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(x, [0, result.radius[0], result.radius[0]])
    np.testing.assert_allclose(y, [0.25, 0.25, 0.0])
    assert result.plot(ax) is ax
    assert len(ax.lines) == 2


def test_dataframe_has_a_row_for_each_example(result):
    frame = result.to_dataframe()
    assert len(frame) == 4
    np.testing.assert_array_equal(frame["radius"], result.radius)
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
