import dataclasses
import pathlib

import numpy as np
import pytest
from scipy import optimize
from scipy import stats

import keras_smoothing as ks
from keras_smoothing import cli
from keras_smoothing.certificates import AuditedClaim
from keras_smoothing.certificates import Claim
from keras_smoothing.evaluation.mean_intervals import mean_interval
from keras_smoothing.evaluation.mean_intervals import paired_interval

CLAIM = Claim(ks.noise.Gaussian(0.25), 0.001, ks.FixedSampling(100_000))

# Which no radius of such a run exceeds.
LIMIT = 0.25 * stats.norm.ppf(0.001 ** (1 / 100_000))


def result(radius, label=None, digest=None, **fields):
    """Class 1 for every example, or an abstention where the radius is 0."""
    radius = np.asarray(radius, np.float64)
    return ks.CertificationResult(
        prediction=np.where(radius > 0, 1, ks.ABSTAIN),
        radius=radius,
        time=np.full(len(radius), 0.5),
        label=np.ones(len(radius), int) if label is None else label,
        digest=digest,
        **fields,
    )


def known(radius, **fields):
    """The same, of a run whose settings are known."""
    counts = np.zeros((len(radius), 2), int)
    fields = {"claim": CLAIM, "counts": counts, "mean_scale": 1.0, **fields}
    return result(radius, **fields)


@pytest.fixture
def pair():
    """Of ten examples eight tell the runs apart at 0.25, in one direction."""
    return known([0.5] * 9 + [0.0]), known([0.5] + [0.125] * 9)


def test_pairs_are_counted_by_hand(pair):
    found = ks.evaluation.compare(*pair, radii=[0.0, 0.25, 0.75])
    np.testing.assert_allclose(
        found.accuracy, [[0.9, 0.9, 0.0], [1.0, 0.1, 0.0]]
    )
    np.testing.assert_array_equal(found.only, [[0, 8, 0], [1, 0, 0]])
    np.testing.assert_allclose(found.difference, [-0.1, 0.8, 0.0])
    # Of one coin each outcome is as rare as the other; of eight, two of 256.
    np.testing.assert_allclose(found.p_value, [1.0, 2 / 256, 1.0])
    np.testing.assert_array_equal(found.differs, [False, True, False])
    np.testing.assert_allclose(found.acr, [0.45, 0.1625])
    gains = [0.0] + [0.375] * 8 + [-0.125]
    np.testing.assert_allclose(found.acr_difference, np.mean(gains))
    low, high = found.acr_interval
    assert -LIMIT < low < np.mean(gains) < high < LIMIT
    np.testing.assert_array_equal(found.seconds, [5.0, 5.0])
    assert np.isnan(found.draws).all()


def test_the_other_way_round_everything_is_mirrored(pair):
    one = ks.evaluation.compare(*pair, radii=[0.0, 0.25])
    other = ks.evaluation.compare(*pair[::-1], radii=[0.0, 0.25])
    np.testing.assert_allclose(other.difference, -one.difference)
    np.testing.assert_allclose(other.interval, -one.interval[:, ::-1])
    np.testing.assert_allclose(
        other.acr_interval, -one.acr_interval[::-1], atol=1e-9
    )
    np.testing.assert_array_equal(other.p_value, one.p_value)


def test_wrong_predictions_are_not_certified():
    label = np.array([1, 1, 0, 0])
    one = result([0.5] * 4, label)
    other = result([0.5, 0.0, 0.5, 0.0], label)
    found = ks.evaluation.compare(one, other, radii=0.25)
    np.testing.assert_array_equal(found.only, [[1], [0]])
    np.testing.assert_allclose(found.acr, [0.25, 0.125])


def score(difference, only_a, only_b, examples):
    """The score statistic, its likeliest shares found by search."""

    def unlikelihood(share):
        shares = np.array(
            [share + difference, share, 1 - 2 * share - difference]
        )
        counts = [only_a, only_b, examples - only_a - only_b]
        return -np.sum(np.multiply(counts, np.log(np.maximum(shares, 1e-300))))

    least, most = max(0.0, -difference), (1 - difference) / 2
    share = optimize.minimize_scalar(
        unlikelihood, bounds=(least, most), options={"xatol": 1e-10}
    ).x
    variance = examples * (2 * share + difference - difference**2)
    return (only_a - only_b - examples * difference) / np.sqrt(variance)


@pytest.mark.parametrize(
    "pairs", [(12, 2, 50), (0, 0, 50), (1, 7, 21), (40, 20, 160), (3, 0, 44)]
)
def test_the_edges_are_where_the_score_test_begins_to_reject(pairs):
    low, high = paired_interval(*pairs, 0.95)
    z = stats.norm.isf(0.025)
    assert low < (pairs[0] - pairs[1]) / pairs[2] < high
    np.testing.assert_allclose(score(low, *pairs), z, atol=1e-4)
    np.testing.assert_allclose(score(high, *pairs), -z, atol=1e-4)


@pytest.mark.parametrize("pairs", [(5, 0, 5), (0, 5, 5), (0, 0, 1), (1, 0, 1)])
def test_extreme_counts_have_intervals(pairs):
    low, high = paired_interval(*pairs, 0.95)
    assert -1 <= low <= (pairs[0] - pairs[1]) / pairs[2] <= high <= 1
    assert high - low > 0.2


@pytest.mark.parametrize(
    "only_a,only_b",
    [(0.02, 0.02), (0.04, 0.0), (0.01, 0.15), (0.1, 0.005), (0.15, 0.15)],
)
def test_paired_intervals_cover_the_difference_they_are_of(only_a, only_b):
    # Over all outcomes of 50 examples that are not too improbable to matter.
    pairs = [(i, j) for i in range(22) for j in range(22)]
    likely = stats.multinomial.pmf(
        [(i, j, 50 - i - j) for i, j in pairs],
        50,
        [only_a, only_b, 1 - only_a - only_b],
    )
    covered = 0.0
    for (i, j), p in zip(pairs, likely, strict=True):
        if p > 1e-6:
            low, high = paired_interval(i, j, 50, 0.95)
            covered += p * (low <= only_a - only_b <= high)
    assert likely.sum() > 0.999
    # Approximate: the worst of all pairs of shares is 0.9404.
    assert covered > 0.935


def rare(rng, size):
    return np.where(rng.random(size) < 0.02, 0.9, 0.3), 0.3 + 0.02 * 0.6


def bernoulli(rng, size):
    return 0.9 * (rng.random(size) < 0.5), 0.45


def uniform(rng, size):
    return 0.9 * rng.random(size), 0.45


def skewed(rng, size):
    return 0.9 * rng.random(size) ** 12, 0.9 / 13


def identical(rng, size):
    return np.full(size, 0.3), 0.3


@pytest.mark.parametrize("of_a", [rare, bernoulli, uniform, skewed, identical])
def test_acr_intervals_cover_whatever_the_distribution(of_a):
    rng = np.random.default_rng(0)
    runs, examples = 100, 50
    covered, shortest = 0, np.inf
    other = known([0.3] * examples)
    for _ in range(runs):
        radius, mean = of_a(rng, examples)
        found = ks.evaluation.compare(known(radius), other, radii=[0.0])
        low, high = found.acr_interval
        covered += low <= mean - 0.3 <= high
        shortest = min(shortest, high - low)
    assert covered >= stats.binom.ppf(0.001, runs, 0.95)
    assert shortest > 0


def test_the_edges_are_where_the_capital_is_enough():
    rng = np.random.default_rng(1)
    values = rng.normal(size=40).clip(-2, 1)
    low, high = mean_interval(values, -2.0, 1.0, 0.9)
    assert -2 < low < values.mean() < high < 1

    def capital(x, mean):
        # Each of the gamblers by itself, as the docstring says.
        ends = np.sqrt(8 * np.log(20) / len(x)), 1 / mean
        bets = np.geomspace(*ends, 8)
        return np.mean([np.prod(1 + bet * (x - mean)) for bet in bets])

    share, below, above = ((v + 2) / 3 for v in (values, low, high))
    assert capital(share, below) == pytest.approx(20)
    assert capital(1 - share, 1 - above) == pytest.approx(20)
    # Neither does it depend on the order, nor on the unit.
    order = rng.permutation(40)
    again = mean_interval(10 * values[order], -20.0, 10.0, 0.9)
    np.testing.assert_allclose(again, (10 * low, 10 * high), rtol=1e-9)


def test_no_bet_wins_more_than_the_truth_allows():
    # The expected capital at the true mean, exactly, of all 2^8 outcomes.
    p, n = 0.3, 8
    ones = np.arange(n + 1)
    reached = [
        mean_interval(np.repeat([0.0, 1.0], [n - k, k]), 0.0, 1.0, 0.8)
        for k in ones
    ]
    for edge, sign in ((0, 1), (1, -1)):
        wrong = [sign * ends[edge] > sign * p for ends in reached]
        assert stats.binom.pmf(ones, n, p)[wrong].sum() <= 0.1


@pytest.mark.parametrize("values", [[0.0] * 50, [1.0] * 50, [0.0, 1.0], [0.5]])
def test_extreme_values_have_intervals(values):
    low, high = mean_interval(np.array(values), 0.0, 1.0, 0.95)
    assert 0 <= low <= np.mean(values) <= high <= 1
    # As of Clopper and Pearson, of which no other can be much shorter.
    assert high - low > stats.beta.ppf(0.9, 1, len(values))
    assert mean_interval(np.zeros(3), 0.0, 0.0, 0.95) == (0.0, 0.0)


def test_a_run_against_itself_differs_nowhere(pair):
    found = ks.evaluation.compare(pair[0], pair[0])
    assert not found.differs.any() and (found.p_value == 1).all()
    # Ten equal examples do not prove that all others are.
    assert (found.interval[:, 0] < -0.2).all()
    low, high = found.acr_interval
    assert low < -0.2 * LIMIT and high > 0.2 * LIMIT


def test_the_largest_radius_is_that_of_the_settings(pair):
    assert pair[0].radius_limit == pytest.approx(LIMIT)
    adaptive = ks.AdaptiveSampling([0.0], max_n=100_000)
    claim = Claim(CLAIM.noise, 0.001, adaptive)
    limit = known([0.5] * 2, claim=claim).radius_limit
    looks = adaptive.looks
    assert limit == max(claim.largest_radius(n, 2) for n in looks) < LIMIT
    # More audits than are expected prove more.
    audited = AuditedClaim.of(100, CLAIM.noise, 0.001, CLAIM.stopping)
    limit = known([0.5] * 2, claim=audited).radius_limit
    assert audited.largest_radius(100_000, 2) < limit < LIMIT
    votes = audited.unanimous(100_000, 2)
    votes.findings["audited"][:] = votes.counts
    assert audited.prove(votes, np.array([0]))[1][0] == limit


def test_where_no_radius_is_too_large_acr_has_no_interval(pair):
    one, other = (result(r.radius) for r in pair)
    promises = {"prediction": None, "radius": None, "alpha": None}
    evidence = Claim(CLAIM.noise, 0.001, CLAIM.stopping, deployable=False)
    without = [
        one,
        known(one.radius, promises=promises),
        known(one.radius, claim=evidence),
        known(one.radius, mean_scale=np.full(10, 2.0)),
    ]
    compare = ks.evaluation.compare
    for run in without:
        assert run.radius_limit is None
        for both in ((run, other), (run, pair[1])):
            found = compare(*both)
            assert np.isnan(found.acr_interval).all()
            acr, *_, note = str(found).splitlines()[-5:]
            assert acr.startswith("ACR") and acr.endswith(" unknown")
            assert "largest_radius" in note
    given = compare(one, other, largest_radius=LIMIT)
    np.testing.assert_allclose(given.acr_interval, compare(*pair).acr_interval)
    assert "largest_radius" not in str(given)
    # What is known of each makes it shorter; what is given counts.
    shorter = compare(*pair, largest_radius=(0.5, 0.6)).acr_interval
    assert np.ptp(shorter) < np.ptp(given.acr_interval)
    np.testing.assert_array_equal(
        compare(one, other, largest_radius=0.6).acr_interval,
        compare(one, other, largest_radius=[0.6]).acr_interval,
    )


@pytest.mark.parametrize(
    "largest_radius,message",
    [
        (0.4, "no radius above 0.4.*Received: a radius of 0.5"),
        ((0.9, 0.4), "no radius above 0.4"),
        (-1.0, "argument `largest_radius`"),
        (np.inf, "argument `largest_radius`"),
        ((1.0, 1.0, 1.0), "one number `largest_radius`, or two"),
    ],
    ids=str,
)
def test_bounds_that_are_none(pair, largest_radius, message):
    with pytest.raises(ValueError, match=message):
        ks.evaluation.compare(*pair, largest_radius=largest_radius)


def test_radii_beyond_what_settings_prove_are_refused():
    beyond = known([0.5, LIMIT + 0.01])
    with pytest.raises(ValueError, match="Expected no radius above 0.9"):
        ks.evaluation.compare(beyond, beyond)


def test_the_table_favours_nobody():
    rng = np.random.default_rng(1)
    a, b = (result(rng.gamma(2.0, 0.2, 700)) for _ in range(2))
    found = ks.evaluation.compare(
        a, b, radii=[0.1, 0.3], confidence=0.9, largest_radius=4.0
    )
    heading, *rows, acr, draws, seconds, note = str(found).splitlines()
    assert "90% interval" in heading and "p <= 0.1 " in note
    for i, row in enumerate(rows):
        row = row.replace("[", " ").replace("]", " ").replace(",", " ")
        cells = row.rstrip("* ").split()
        shares = [float(cell.rstrip("%")) / 100 for cell in cells[1:6]]
        assert (shares[:2] <= found.accuracy[:, i] + 1e-12).all()
        assert abs(shares[2]) <= abs(found.difference[i]) + 1e-12
        assert abs(shares[2]) > abs(found.difference[i]) - 0.001
        assert shares[3] <= found.interval[i, 0]
        assert shares[4] >= found.interval[i, 1]
        assert [int(cell) for cell in cells[6:8]] == list(found.only[:, i])
        assert float(cells[8]) >= found.p_value[i]
        assert row.endswith("*") == found.differs[i]
    assert acr.startswith("ACR") and draws.split()[1:] == ["unknown"] * 2
    edges = acr[acr.index("[") + 1 : -1].split(",")
    low, high = found.acr_interval
    assert low - 0.0001 < float(edges[0]) <= low
    assert high <= float(edges[1]) < high + 0.0001
    assert seconds.split()[1:] == ["350.0"] * 2


def test_differences_are_those_of_the_counts():
    # 0.748 - 0.652 is a little less than 0.096.
    a, b = np.zeros((2, 500))
    a[:374], b[:326] = 0.5, 0.5
    found = ks.evaluation.compare(result(a), result(b), radii=[0.25])
    assert "+9.6%" in str(found)


def numbered(radius, **fields):
    """With labels 0 to 2, indices and digests, and settings that are known."""
    count = len(radius)
    names = np.array([f"{i:016x}" for i in range(count)])
    fields = {
        "label": np.arange(count) % 3,
        "mean_scale": np.ones(count),
        "digest": names,
        "index": np.arange(count),
        **fields,
    }
    return known(np.asarray(radius), **fields)


def without(result, *names):
    return dataclasses.replace(result, **dict.fromkeys(names))


def assert_equal_comparisons(one, other):
    for field in dataclasses.fields(one):
        name = field.name
        np.testing.assert_array_equal(
            getattr(one, name), getattr(other, name), name
        )


@pytest.mark.parametrize("unknown", [(), ("digest",), ("index",)], ids=str)
def test_the_order_of_rows_changes_nothing(unknown):
    rng = np.random.default_rng(2)
    a, b = (
        without(numbered(rng.gamma(2.0, 0.1, 60).clip(0, 0.9)), *unknown)
        for _ in range(2)
    )
    a.time[:] = rng.random(60)
    found = ks.evaluation.compare(a, b)
    assert found.only.any()
    for _ in range(3):
        one, other = a[rng.permutation(60)], b[rng.permutation(60)]
        assert_equal_comparisons(ks.evaluation.compare(one, other), found)


def test_one_run_without_digests_is_paired_by_index():
    a, b = numbered([0.5, 0.0, 0.3]), numbered([0.5, 0.2, 0.0])
    found = ks.evaluation.compare(a, b, [0.1])
    np.testing.assert_array_equal(found.only, [[0], [1]])
    for one, other in (
        (a, without(b[::-1], "digest")),
        (without(a[::-1], "digest"), b),
    ):
        again = ks.evaluation.compare(one, other, [0.1])
        assert_equal_comparisons(again, found)


def test_parts_that_were_numbered_by_themselves_are_paired_by_digest():
    whole = numbered([0.0, 0.5, 0.5, 0.0])
    own = dataclasses.replace(whole, index=np.array([0, 1, 0, 1]))
    found = ks.evaluation.compare(own, whole[::-1])
    assert not found.only.any() and found.examples == 4
    with pytest.raises(ValueError, match="example 0 of a again, in row 2"):
        ks.evaluation.compare(without(own, "digest"), whole)


def test_an_image_that_the_data_have_twice_counts_twice():
    digest = np.array(["a", "b", "a", "a"])
    # Once with another label than before.
    label = np.array([1, 1, 1, 0])
    a = numbered([0.5, 0.5, 0.0, 0.5], digest=digest, label=label)
    b = numbered([0.0, 0.5, 0.0, 0.5], digest=digest, label=label)
    found = ks.evaluation.compare(a, b, [0.1])
    np.testing.assert_array_equal(found.only, [[1], [0]])
    again = ks.evaluation.compare(a[[3, 0, 1, 2]], b[::-1], [0.1])
    assert_equal_comparisons(again, found)
    other = numbered([0.5] * 4, digest=np.array(["a", "b", "b", "a"]))
    with pytest.raises(ValueError, match=r"example 3 \(digest a\) of a, which"):
        ks.evaluation.compare(a, other)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda r: r[[0, 1, 2, 1]], r"example 1 \(digest .*1\) of b again"),
        (lambda r: r[[3, 1, 0]], r"example 2 \(digest .*2\) of a, which b"),
        (lambda r: without(r[:3], "digest"), "example 3 of a, which b does"),
        (
            lambda r: dataclasses.replace(
                without(r, "digest"), index=20 * r.index
            ),
            "example 1 of a, which b does not have. There are 4 .* and 4 in b",
        ),
        (
            lambda r: dataclasses.replace(r, label=np.array([0, 1, 0, 1]))[
                ::-1
            ],
            "label 2 in a and 0 in b for example 2",
        ),
        (
            lambda r: dataclasses.replace(
                without(r, "digest", "index"), label=np.array([0, 1, 2, 1])
            ),
            "label 0 in a and 1 in b for example 3",
        ),
        (lambda r: without(r[:3], "digest", "index"), "4 in a and 3 in b, w"),
    ],
)
def test_what_cannot_be_paired_is_named(change, message):
    whole = numbered([0.5] * 4)
    with pytest.raises(ValueError, match=message):
        ks.evaluation.compare(whole, change(whole))


def test_digests_of_other_examples_are_not_paired_by_index():
    a = numbered([0.5] * 3)
    b = dataclasses.replace(a, digest=np.array(["x", "y", "z"]))
    with pytest.raises(ValueError, match="example 0 .* of a, which b does not"):
        ks.evaluation.compare(a, b)


def test_results_that_do_not_compare():
    whole = result([0.5] * 4)
    compare = ks.evaluation.compare
    with pytest.raises(ValueError, match="two examples at least. Received: 1"):
        compare(whole[:1], whole[:1])
    unlabelled = ks.CertificationResult(
        whole.prediction, whole.radius, whole.time
    )
    with pytest.raises(ValueError, match="with labels. Received: one without"):
        compare(whole, unlabelled)
    with pytest.raises(ValueError, match="argument `confidence`"):
        compare(whole, whole, confidence=95)
    with pytest.raises(ValueError, match="Expected radii >= 0"):
        compare(whole, whole, radii=[-0.1])
    stopping = ks.FixedSampling(100)
    l1, l2 = (
        result([0.5] * 4, claim=Claim(noise, 0.1, stopping))
        for noise in (ks.noise.Laplace(1.0), ks.noise.Gaussian(1.0))
    )
    with pytest.raises(ValueError, match="Received: l1 and l2"):
        compare(l1, l2)


def test_the_command_compares_logs(digits_model, digits, tmp_path, capsys):
    x, y = digits
    logs = [str(tmp_path / f"{name}.tsv") for name in ("few", "many", "part")]
    for log, n, size in zip(logs, (50, 500, 90), (12, 12, 9), strict=True):
        digits_model.certify(
            x[:size], y[:size], n=n, seed=0, log=log, verbose=0
        )
    few, many, part = logs
    command = ["compare", few, many, "--radii", "0", "0.25"]
    assert cli.main([*command, "--confidence", "0.9"]) == 0
    output = capsys.readouterr().out
    a, b = ks.read_log(few), ks.read_log(many)
    found = ks.evaluation.compare(a, b, [0, 0.25], 0.9)
    assert output == f"a: {few}: {a}\nb: {many}: {b}\n{found}\n"
    np.testing.assert_array_equal(found.draws, [50, 500])
    assert np.isfinite(found.acr_interval).all()
    assert cli.main([*command, "--largest-radius", "0.9", "1"]) == 0
    given = ks.evaluation.compare(a, b, [0, 0.25], largest_radius=(0.9, 1))
    assert capsys.readouterr().out.endswith(f"{given}\n")
    assert cli.main(["compare", few, part]) == 2
    assert "example 9 (digest " in capsys.readouterr().err
    assert cli.main(["report", few, many]) == 0
    assert "Not all logs are of the same" not in capsys.readouterr().out
    assert cli.main(["report", few, part]) == 0
    assert "Not all logs are of the same" in capsys.readouterr().out
    # Six columns of another program, the other way round.
    heading, *rows = pathlib.Path(many).read_text().splitlines()
    theirs = tmp_path / "theirs.tsv"
    lines = [line.split("\t")[:6] for line in (heading, *rows[::-1])]
    theirs.write_text("\n".join("\t".join(line) for line in lines))
    command = ["compare", few, str(theirs), "--radii", "0", "0.25"]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out.splitlines()[3:5]
    found = ks.evaluation.compare(a, b, [0, 0.25])
    assert shown == str(found).splitlines()[1:3]
