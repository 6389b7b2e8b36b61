import keras
import numpy as np
import pytest
from conftest import small_convnet
from scipy import stats

import keras_smoothing as ks


def test_plan_in_closed_form():
    plan = ks.plan(100_000, 0.001, ks.noise.Gaussian(0.25), num_examples=3)
    p = 0.001 ** (1 / 100_000)
    assert plan.largest_radius == pytest.approx(0.25 * stats.norm.ppf(p))
    assert plan.smallest_n == 10
    assert plan.draws == 3 * 100_100
    assert plan.seconds is None
    for part in ("0.9", "l2", "n < 10", "300,300 noisy copies"):
        assert part in str(plan)


def test_no_certificate_exceeds_the_plan(digits_model, digits):
    x, _ = digits
    result = digits_model.certify(x, n=500, seed=0, verbose=0)
    plan = ks.plan(500, 0.001, digits_model.noise)
    assert result.radius.max() <= plan.largest_radius * (1 + 1e-12)
    assert (result.counts.max(axis=1) == 500).any()
    assert result.radius.max() == pytest.approx(plan.largest_radius)


def test_time_is_measured_with_a_model():
    plan = ks.plan(1_000, 0.001, ks.noise.Gaussian(0.25), model=small_convnet())
    assert 0 < plan.seconds < 60
    assert "s on this machine" in str(plan)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(n=0), "argument `n`"),
        (dict(alpha=1), "argument `alpha`"),
        (dict(n0=0), "argument `n0`"),
        (dict(num_examples=0), "argument `num_examples`"),
        (dict(model=keras.Sequential()), "known input shape"),
    ],
)
def test_bad_arguments(arguments, message):
    good = dict(n=100, alpha=0.001, noise=ks.noise.Gaussian(1.0))
    with pytest.raises(ValueError, match=message):
        ks.plan(**{**good, **arguments})


def test_noise_without_a_radius_has_no_plan():
    import tensorflow_probability as tfp

    noise = ks.noise.Distribution(tfp.distributions.Cauchy(0.0, 1.0))
    with pytest.raises(ValueError, match="No radius formula"):
        ks.plan(100, 0.001, noise)


def test_useless_n_plans_a_radius_of_zero():
    assert ks.plan(9, 0.001, ks.noise.Gaussian(1.0)).largest_radius == 0
    assert np.isfinite(ks.plan(10, 0.001, ks.noise.Gaussian(1.0)).draws)
