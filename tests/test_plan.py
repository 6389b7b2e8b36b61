import dataclasses
import math

import keras
import numpy as np
import pytest
from conftest import small_convnet
from conftest import smoothed
from scipy import optimize
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.equilibrium import cells
from keras_smoothing.serialized.audited_sampler import AuditedSampler

NOISE = ks.noise.Gaussian(1.0)
EXACT, AUDITED = ks.serialized.Exact, ks.serialized.Audited


def equilibrium_model(cell=cells.DenseCell):
    return keras.Sequential(
        [
            keras.Input((4,)),
            ks.layers.DeepEquilibrium(cell(8)),
            keras.layers.Dense(2),
        ]
    )


def test_plan_in_closed_form():
    plan = ks.plan(100_000, 0.001, ks.noise.Gaussian(0.25), num_examples=3)
    p = 0.001 ** (1 / 100_000)
    assert plan.largest_radius == pytest.approx(0.25 * stats.norm.ppf(p))
    assert plan.smallest_n == 10
    assert plan.draws == 3 * 100_100
    assert plan.seconds is None
    for part in ("0.9", "l2", "n < 10", "300,300 noisy copies"):
        assert part in str(plan)


def test_a_smoothed_model_is_timed_as_what_it_smooths(digits_model):
    plan = ks.plan(100, 0.01, digits_model.noise, model=digits_model)
    assert plan.seconds > 0


def test_a_smoothed_model_has_a_plan_of_its_own(digits_model):
    own = digits_model.plan(2_000, 0.01, num_examples=5)
    plan = ks.plan(
        2_000, 0.01, digits_model.noise, num_examples=5, model=digits_model
    )
    assert own.seconds > 0
    assert dataclasses.replace(own, seconds=None) == dataclasses.replace(
        plan, seconds=None
    )


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
        (dict(serialized="audited"), "such as ks.serialized.Exact"),
        (dict(serialized=AUDITED(101)), "at most the number of draws, 100"),
        (
            dict(serialized=AUDITED(), model=small_convnet()),
            "equilibrium layers \\[\\]",
        ),
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


@pytest.mark.parametrize("alpha", [0.5, 0.25, 0.05, 0.001, 1e-9])
@pytest.mark.parametrize(
    "form", [None, EXACT(), AUDITED()], ids=["none", "exact", "audited"]
)
def test_smallest_n_is_the_first_that_can_certify(alpha, form):
    n = ks.plan(100, alpha, NOISE, serialized=form).smallest_n
    # Of unanimous votes the bound is level ** (1 / n); audits take half of it.
    level = alpha / 2 if isinstance(form, AUDITED) else alpha
    assert n == math.floor(-math.log2(level)) + 1
    assert ks.plan(n, alpha, NOISE, serialized=form).largest_radius > 0
    if n > 1:
        fewer = ks.plan(n - 1, alpha, NOISE, serialized=form)
        assert fewer.largest_radius == 0


@pytest.mark.parametrize(
    "num_audited,sigmas",
    [(24, 0.57), (100, 1.39), (400, 1.99), (1_000, 2.31), (2_000, 2.53)],
)
def test_audits_cap_the_radius_in_closed_form(num_audited, sigmas):
    n, in_all = 10_000, math.comb(10_000, num_audited)
    # The most mistakes of which so many audits may find none: one in 2,000 of
    # all ways to choose the audits avoids them, half of alpha.
    mistakes = 0
    while 2_000 * math.comb(n - mistakes - 1, num_audited) >= in_all:
        mistakes += 1
    p = optimize.brentq(
        lambda p: stats.binom.sf(n - mistakes - 1, n, p) - 1 / 2_000,
        *(0.5, 1.0),
        xtol=1e-14,
    )
    plan = ks.plan(n, 0.001, NOISE, serialized=AUDITED(num_audited))
    assert plan.largest_radius == pytest.approx(stats.norm.ppf(p), rel=1e-9)
    assert plan.largest_radius == pytest.approx(sigmas, abs=0.005)  # Rounded.
    assert plan.num_audited == num_audited
    alone = ks.plan(n, 0.001, NOISE)
    assert plan.radius_without_audits == alone.largest_radius
    assert alone.radius_without_audits == alone.largest_radius
    for part in (
        f"above {at_most(alone.largest_radius, '.4f')}",
        f"with {num_audited:,} of the draws audited",
        f"none above {at_most(plan.largest_radius, '.4f')}",
    ):
        assert part in str(plan)


@pytest.mark.parametrize("n", [200, 1_000, 10_000, 100_000])
def test_the_default_audits_reach_seven_tenths(n):
    plan = ks.plan(n, 0.001, NOISE, serialized=AUDITED())
    wanted = 0.7 * plan.radius_without_audits
    assert plan.largest_radius >= wanted
    fewer = AUDITED(int(0.9 * plan.num_audited))
    assert ks.plan(n, 0.001, NOISE, serialized=fewer).largest_radius < wanted
    assert f"with {plan.num_audited:,} of the draws audited" in str(plan)


def test_exact_votes_lose_nothing():
    plan = ks.plan(10_000, 0.001, NOISE, serialized=EXACT())
    assert plan == ks.plan(10_000, 0.001, NOISE)
    assert plan.num_audited is None and "audited" not in str(plan)


def test_undisputed_votes_prove_what_is_planned():
    base = equilibrium_model()
    base.layers[-1].set_weights([np.zeros((8, 2)), np.array([1.0, 0.0])])
    result = smoothed(base, 1.0).certify(
        np.zeros((3, 4), "float32"),
        n=1_000,
        seed=0,
        serialized=AUDITED(200, steps=1),
        verbose=0,
    )
    # As many audits as the coins chose; all examples share them.
    (chosen,) = set(result.findings["audited"][:, 0])
    plan = ks.plan(1_000, 0.001, NOISE, serialized=AUDITED(int(chosen)))
    np.testing.assert_allclose(result.radius, plan.largest_radius, rtol=1e-12)


@pytest.mark.slow
def test_the_time_is_that_of_the_form(monkeypatch):
    count, timed = AuditedSampler.count, []

    def recorded(sampler, *args, **settings):
        timed.append((sampler.steps, sampler.audit_share))
        return count(sampler, *args, **settings)

    monkeypatch.setattr(AuditedSampler, "count", recorded)
    model = equilibrium_model()
    form = AUDITED(50)
    plan = ks.plan(1_000, 0.001, NOISE, model=model, serialized=form)
    assert 0 < plan.seconds < 60
    # The pilot tries one step, two, ..., until few are enough for the run.
    (steps, share) = timed[-1]
    assert timed[0] == (1, 1.0) and 1 <= steps <= 5 and share == 0.05
    exact = dict(model=model, serialized=EXACT())
    with pytest.raises(ValueError, match="contractive or monotone"):
        ks.plan(1_000, 0.001, NOISE, **exact)
    exact["model"] = equilibrium_model(cells.ContractiveDense)
    assert 0 < ks.plan(1_000, 0.001, NOISE, **exact).seconds < 60


def test_too_few_audits_are_named():
    plan = ks.plan(1_000, 0.001, NOISE, serialized=AUDITED(5))
    assert plan.largest_radius == 0
    with pytest.raises(ValueError, match="Expected more audits of n=1000 .*=5"):
        smoothed(equilibrium_model()).certify(
            np.zeros((1, 4), "float32"),
            n=1_000,
            serialized=AUDITED(5, steps=1),
        )
