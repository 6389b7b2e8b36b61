"""Order statistics against laws whose medians are known, in a whole ball."""

import numpy as np
import pytest
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates import MedianClaim
from keras_smoothing.certificates.bounds import upper_rank

TRIALS, N, ALPHA = 20_000, 101, 0.2
LAWS = {
    ks.noise.Gaussian(1.0): stats.norm(),
    ks.noise.Laplace(1.0): stats.laplace(),
    ks.noise.Uniform(2.0): stats.uniform(-2, 4),
}


def most(share, trials=TRIALS):
    """Violations that are hardly ever exceeded at that probability."""
    return stats.binom.ppf(0.9999, trials, share)


def ends(claim, outputs):
    """Lower and upper ends of answers of one number: `(trials, radii)`."""
    _, lower, upper = claim.prove(outputs.astype("float32")[..., np.newaxis])
    return lower[..., 0], upper[..., 0]


def draws(law, seed=0):
    rng = np.random.default_rng(seed)
    return law.rvs((TRIALS, N), random_state=rng)


def check_coverage(claim, outputs, lowest, highest, tight=True):
    """That [lowest, highest], one for each radius, are in the intervals."""
    lower, upper = ends(claim, outputs)
    below, above = lower > lowest, upper < highest
    assert (below.sum(0) <= most(ALPHA / 2)).all()
    assert (above.sum(0) <= most(ALPHA / 2)).all()
    assert ((below | above).sum(0) <= most(ALPHA)).all()
    if tight:  # A rank further off would fail this half as often.
        assert (below.mean(0) > 0.25 * ALPHA).all()
        assert (above.mean(0) > 0.25 * ALPHA).all()


@pytest.mark.parametrize("n", [1, 2, 7, 100, 10_000])
@pytest.mark.parametrize("p", [0.5, 0.9, 1 - 1e-9, 1.0])
def test_the_rank_is_the_least_that_is_safe(n, p):
    level = 0.0123
    k = int(upper_rank(n, p, level))
    assert 1 <= k <= n + 1
    assert stats.binom.sf(k - 1, n, p) <= level
    assert k == 1 or stats.binom.sf(k - 2, n, p) > level
    claim = MedianClaim(ks.noise.Gaussian(1.0), 2 * level, n, 0.0)
    assert claim.ranks((1,))[0] == upper_rank(n, 0.5, level)


@pytest.mark.parametrize("noise", LAWS, ids=str)
def test_medians_of_the_whole_ball_are_covered(noise):
    # Of h(x) = x the medians in the ball of radius r fill [-r, r].
    claim = MedianClaim(noise, ALPHA, N, (0.0, 0.3, 1.0))
    radii = np.array(claim.radii)
    check_coverage(claim, draws(LAWS[noise]), -radii, radii)


@pytest.mark.parametrize("noise", LAWS, ids=str)
def test_atoms_have_several_medians(noise):
    # Of floor(x): -1 and 0 at the example itself; and, a little beyond one, 1
    # on the right and -2 on the left.
    claim = MedianClaim(noise, ALPHA, N, (0.0, 1.0 + 1e-6))
    outputs = np.floor(draws(LAWS[noise]))
    check_coverage(claim, outputs, np.array([-1, -2]), np.array([0, 1]))
    # Infinite numbers are numbers, with the same probabilities.
    claim = MedianClaim(noise, ALPHA, N, (0.0,))
    outputs = np.where(outputs >= 0, np.inf, -np.inf)
    check_coverage(claim, outputs, -np.inf, np.inf)


@pytest.mark.parametrize("stands_for", [-np.inf, -0.7, np.inf])
def test_nan_may_stand_for_any_number(stands_for):
    # NaN beyond 1.2. The medians of what it stands for, on a grid of the ball.
    law, edge, radius = stats.norm(), 1.2, 0.25
    medians = []
    for centre in np.linspace(-radius, radius, 101):
        inside = law.cdf(edge - centre)
        share = {-np.inf: 0.5 - (1 - inside), np.inf: 0.5}.get(stands_for)
        if share is None:
            jump = law.cdf(stands_for - centre)
            share = 0.5 if jump > 0.5 else 0.5 - (1 - inside)
            medians.append(max(stands_for, centre + law.ppf(share)))
        else:
            medians.append(centre + law.ppf(share))
    claim = MedianClaim(ks.noise.Gaussian(1.0), ALPHA, N, (radius,))
    outputs = draws(law)
    outputs[outputs > edge] = np.nan
    check_coverage(claim, outputs, min(medians), max(medians), tight=False)


def test_too_much_nan_proves_nothing():
    claim = MedianClaim(ks.noise.Gaussian(1.0), 0.05, 1_000, (0.0, 0.5))
    outputs = np.random.default_rng(0).normal(size=(1, 1_000))
    lower, upper = ends(claim, outputs)
    assert np.isfinite(lower).all() and np.isfinite(upper).all()
    outputs[0, :300] = np.nan
    lower, upper = ends(claim, outputs)
    np.testing.assert_array_equal(np.isfinite(lower), [[True, False]])
    np.testing.assert_array_equal(np.isfinite(upper), [[True, False]])
    lower, upper = ends(claim, np.full((1, 1_000), np.nan))
    assert (lower == -np.inf).all() and (upper == np.inf).all()


@pytest.mark.parametrize("correction", ["bonferroni", None])
def test_all_coordinates_of_all_examples_under_shared_draws(correction):
    # Coordinate c of example i is a rotated one of the noise that they share.
    examples, coordinates, alpha, n, parts = 3, 4, 0.2, 60, 10
    rng = np.random.default_rng(0)
    rotations = stats.ortho_group.rvs(coordinates, examples, random_state=rng)
    claim = MedianClaim(ks.noise.Gaussian(1.0), alpha, n, (0.4,), correction)
    if correction is not None:
        claim = claim.shared_by(examples)
    wrong = 0
    for _ in range(parts):
        noise = rng.normal(size=(TRIALS // parts, 1, n, coordinates))
        outputs = (noise @ rotations).astype("float32")
        trials = outputs.shape[0]
        _, lower, upper = claim.prove(outputs.reshape(-1, n, coordinates))
        failed = (lower > -0.4) | (upper < 0.4)
        wrong += failed.reshape(trials, -1).any(axis=1).sum()
    if correction is None:  # What each fails at is far less than what any does.
        assert wrong > 2 * most(alpha)
    else:
        assert alpha / 8 * TRIALS < wrong <= most(alpha)


@pytest.mark.parametrize("n", [12, 13])
def test_the_median_is_a_draw_inside_the_interval(n):
    claim = MedianClaim(ks.noise.Gaussian(1.0), 0.1, n, (0.0, 0.1))
    outputs = np.arange(n, dtype="float32")[::-1].reshape(1, n, 1)
    median, lower, upper = claim.prove(outputs.copy())
    assert median[0, 0] == (n + 1) // 2 - 1
    assert (lower <= median).all() and (median <= upper).all()
    assert (lower[0, 0] >= lower[0, 1]) and (upper[0, 0] <= upper[0, 1])
    # Half of the draws, or less, find no box: there is one.
    outputs[0, : n // 2] = np.inf
    assert np.isfinite(claim.prove(outputs.copy())[0]).all()
    outputs[0, : n // 2 + 1] = np.nan
    median, lower, upper = claim.prove(outputs)
    assert median[0, 0] == np.inf == upper[0, 0, 0]


def test_smallest_n():
    for answers in ((1,), (5, 4)):
        for alpha in (0.1, 2 * 2.0**-7, 1e-9):
            radii = (0.0, 0.5, 1.0)
            claim = MedianClaim(ks.noise.Laplace(0.5), alpha, 1, radii)
            for i, n in enumerate(claim.smallest_n(answers).astype(int)):
                for size, finite in ((n - 1, False), (n, True)):
                    if size:
                        claim = MedianClaim(claim.noise, alpha, size, radii)
                        assert (claim.ranks(answers)[i] <= size) == finite
    never = MedianClaim(ks.noise.Uniform(0.5), 0.1, 10, (0.2, 0.5))
    assert np.isfinite(never.smallest_n((1,))).tolist() == [True, False]


def test_the_statement_says_what_holds():
    noise = ks.noise.Laplace(0.5)
    text = MedianClaim(noise, 0.01, 10, 0.5).statement
    assert "at least 1 - 0.01," in text and "l1, in input units" in text
    assert "all coordinates of an example together" in text
    text = MedianClaim(noise, 0.01, 10, 0.5, None, ks.groups.D4()).statement
    assert "each coordinate of an example by itself" in text
    assert "l1 up to D4" in text


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(noise=0.5), "such as Gaussian"),
        (dict(alpha=1.0), "strictly between 0 and 1"),
        (dict(n=0), "an integer >= 1"),
        (dict(radii=-0.1), "radii.*>= 0"),
        (dict(radii=[]), "increasing `radii`"),
        (dict(radii=[0.5, 0.5]), "increasing `radii`"),
        (dict(radii=[0.5, np.nan]), "radii.*finite"),
        (dict(radii=None), "radii.*finite"),
        (dict(correction="holm"), "Expected one of"),
    ],
)
def test_bad_claims(change, message):
    arguments = dict(noise=ks.noise.Gaussian(1.0), alpha=0.1, n=9, radii=0.1)
    with pytest.raises(ValueError, match=message):
        MedianClaim(**{**arguments, **change})
    claim = MedianClaim(**arguments)
    with pytest.raises(ValueError, match="Expected 9 draws"):
        claim.prove(np.zeros((1, 8, 1), "float32"))


def test_intervals_reach_beyond_the_rounding_of_the_example():
    noise, rounding = ks.noise.Gaussian(1.0), np.array([0.0, 0.1, 1e-12, 0.1])
    outputs = np.random.default_rng(0).normal(size=(4, 2_000, 3))
    outputs = outputs.astype("float32")

    def proved(radii, *rounding):
        claim = MedianClaim(noise, 0.01, 2_000, radii)
        return claim.prove(outputs.copy(), *rounding)

    median, lower, upper = proved((0.0, 0.25), rounding)
    for radii, which in (((0.0, 0.25), [0, 2]), ((0.1, 0.35), [1, 3])):
        expected = proved(radii)
        for ours, theirs in zip((median, lower, upper), expected, strict=True):
            np.testing.assert_array_equal(ours[which], theirs[which])
    assert (upper[1] > proved((0.0, 0.25))[2][1]).all()
