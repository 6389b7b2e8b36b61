"""Certificates against classifiers whose true radius is known."""

import numpy as np
import pytest
from conftest import linear_model
from scipy import stats

import keras_smoothing as ks

# Thousands of calls need not try the same model each time.
QUICKLY = dict(check_independence=False)

# On a half space {x_1 > 0} all three radius formulas are tight: the smoothed
# prediction changes at the distance |x_1|, in l2 as in l1.
NOISES = [ks.noise.Gaussian(0.5), ks.noise.Laplace(0.5), ks.noise.Uniform(1.0)]


@pytest.fixture(params=NOISES, ids=str)
def model(request):
    return ks.SmoothedModel(linear_model([1.0, 0.0, 0.0]), request.param)


def points(margins):
    x = np.zeros((len(margins), 3), "float32")
    x[:, 0] = margins
    return x


@pytest.mark.slow
def test_radii_exceed_the_true_one_at_most_alpha_of_the_time(model):
    runs, alpha = 1_200, 0.05
    margins = np.random.default_rng(0).uniform(-0.6, 0.6, runs)
    violations = 0
    for seed, x in enumerate(points(margins)):
        # A seed for each: examples of one run share their draws.
        result = model.certify(
            x[np.newaxis],
            n0=10,
            n=300,
            alpha=alpha,
            seed=seed,
            verbose=0,
            **QUICKLY,
        )
        true_class = int(x[0] <= 0)
        right = result.prediction[0] == true_class
        true_radius = abs(float(x[0])) if right else 0.0
        violations += result.radius[0] > true_radius
    assert violations <= stats.binom.ppf(0.999, runs, alpha)
    # The bound is not loose either, so a broken one would be seen.
    assert violations >= stats.binom.ppf(0.001, runs, alpha / 4)


def median_radius(model, x, runs=11):
    """Of several seeds: a single run is one standard deviation off or so."""
    results = [
        model.certify(x, n=100_000, alpha=0.05, seed=seed, verbose=0)
        for seed in range(runs)
    ]
    return np.median([result.radius for result in results], axis=0)


def test_radii_are_close_to_the_truth(model):
    margins = np.linspace(0.5, 2.0, 7) * model.noise.stddev
    if isinstance(model.noise, ks.noise.Uniform):
        margins = margins[margins < model.noise.half_width]
    radius = median_radius(model, points(margins))
    # Between uniform noise's many equally likely values p moves slowest.
    tolerance = 0.02 if model.noise.norm == "l2" else 0.03
    np.testing.assert_allclose(radius, margins, rtol=tolerance)
    assert (radius <= margins).all()


def test_gaussian_radius_is_the_distance_to_any_hyperplane():
    weights = np.random.default_rng(1).normal(size=20)
    bias = 0.3
    model = ks.SmoothedModel(
        linear_model(weights, bias), ks.noise.Gaussian(0.5)
    )
    unit = weights / np.linalg.norm(weights)
    offset = bias / np.linalg.norm(weights)
    distances = np.array([0.25, 0.4, 0.6, 0.8, 1.0, -0.5])
    x = ((distances - offset)[:, np.newaxis] * unit).astype("float32")
    radius = median_radius(model, x)
    np.testing.assert_allclose(radius, np.abs(distances), rtol=0.02)
    labels = model.classify(x, seed=0)
    np.testing.assert_array_equal(labels, [0, 0, 0, 0, 0, 1])


@pytest.mark.slow
def test_the_draws_that_select_do_not_estimate():
    # On the boundary both classes are equally likely and no radius is right.
    # Selecting and estimating with the same draws would fail twice as often.
    model = ks.SmoothedModel(linear_model([1.0]), ks.noise.Gaussian(0.5))
    x, runs, alpha = np.zeros((1, 1), "float32"), 500, 0.2
    certified = sum(
        model.certify(
            x, n0=200, n=200, alpha=alpha, seed=seed, verbose=0, **QUICKLY
        ).radius[0]
        > 0
        for seed in range(runs)
    )
    assert 0 < certified <= stats.binom.ppf(0.999, runs, alpha)


def test_classify_errs_at_most_alpha_of_the_time():
    # Class 0 has probability 0.52: few are decided, fewer wrongly.
    margin = 0.5 * stats.norm.ppf(0.52)
    model = ks.SmoothedModel(linear_model([1.0]), ks.noise.Gaussian(0.5))
    x = np.array([[margin]], "float32")
    labels = [
        model.classify(x, n=200, alpha=0.2, seed=seed, **QUICKLY)[0]
        for seed in range(500)
    ]
    wrong = labels.count(1)
    assert 0 < wrong <= stats.binom.ppf(0.999, 500, 0.2)
    assert labels.count(ks.ABSTAIN) > 250
