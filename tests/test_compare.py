import numpy as np
import pytest
from scipy import optimize
from scipy import stats

import keras_smoothing as ks
from keras_smoothing import cli
from keras_smoothing.evaluation.paired_interval import paired_interval
from keras_smoothing.statistics import Claim


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


@pytest.fixture
def pair():
    """Of ten examples eight tell the runs apart at 0.25, in one direction."""
    return result([0.5] * 9 + [0.0]), result([0.5] + [0.125] * 9)


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
    test = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found.acr_interval, test)
    np.testing.assert_array_equal(found.seconds, [5.0, 5.0])
    assert np.isnan(found.draws).all()


def test_the_other_way_round_everything_is_mirrored(pair):
    one = ks.evaluation.compare(*pair, radii=[0.0, 0.25])
    other = ks.evaluation.compare(*pair[::-1], radii=[0.0, 0.25])
    np.testing.assert_allclose(other.difference, -one.difference)
    np.testing.assert_allclose(other.interval, -one.interval[:, ::-1])
    np.testing.assert_allclose(other.acr_interval, -one.acr_interval[::-1])
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


@pytest.mark.parametrize("only_a,only_b", [(0.1, 0.02), (0.01, 0.01)])
def test_intervals_cover_the_difference_they_are_of(only_a, only_b):
    rng = np.random.default_rng(0)
    runs, examples = 1_000, 200
    # Radii of the discordant pairs spread, so that ACR differs as well.
    covered = acr_covered = 0
    for _ in range(runs):
        u, radius = rng.random((2, examples))
        a, b = np.full((2, examples), 0.0)
        a[u < only_a] = radius[u < only_a]
        b[u > 1 - only_b] = radius[u > 1 - only_b]
        found = ks.evaluation.compare(result(a), result(b), radii=1e-9)
        low, high = found.interval[0]
        covered += low <= only_a - only_b <= high
        low, high = found.acr_interval
        acr_covered += low <= (only_a - only_b) / 2 <= high
    # Both are approximate, by two in a hundred at these sizes.
    least = stats.binom.ppf(0.001, runs, 0.93)
    assert covered >= least
    assert acr_covered >= least


def test_a_run_against_itself_differs_nowhere(pair):
    found = ks.evaluation.compare(pair[0], pair[0])
    assert not found.differs.any() and (found.p_value == 1).all()
    # Ten equal examples do not prove that all others are.
    assert (found.interval[:, 0] < -0.2).all()
    np.testing.assert_array_equal(found.acr_interval, [0, 0])


def test_the_table_favours_nobody():
    rng = np.random.default_rng(1)
    a, b = (result(rng.gamma(2.0, 0.2, 700)) for _ in range(2))
    found = ks.evaluation.compare(a, b, radii=[0.1, 0.3], confidence=0.9)
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
    assert seconds.split()[1:] == ["350.0"] * 2


def test_differences_are_those_of_the_counts():
    # 0.748 - 0.652 is a little less than 0.096.
    a, b = np.zeros((2, 500))
    a[:374], b[:326] = 0.5, 0.5
    found = ks.evaluation.compare(result(a), result(b), radii=[0.25])
    assert "+9.6%" in str(found)


DIGESTS = np.array(["a", "b", "c", "d"])


@pytest.mark.parametrize(
    "one,other,message",
    [
        (
            dict(digest=DIGESTS),
            dict(digest=np.array(["a", "b", "d", "c"])),
            "another digest or label in example 2",
        ),
        (
            dict(digest=DIGESTS),
            dict(label=np.array([1, 0, 1, 1])),
            "another label in example 1",
        ),
        (
            dict(digest=DIGESTS),
            dict(digest=DIGESTS, label=np.array([1, 1, 1, 0])),
            "another digest or label in example 3",
        ),
    ],
)
def test_other_examples_are_refused_by_their_index(one, other, message):
    one, other = (result([0.5] * 4, **fields) for fields in (one, other))
    with pytest.raises(ValueError, match=message):
        ks.evaluation.compare(one, other)


def test_results_that_do_not_compare():
    whole = result([0.5] * 4)
    compare = ks.evaluation.compare
    with pytest.raises(ValueError, match="4 and 3 examples, alike up to exam"):
        compare(whole, whole[:3])
    with pytest.raises(ValueError, match="two at least. Received: 1 and 1"):
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
    assert cli.main(["compare", few, part]) == 2
    assert "12 and 9 examples" in capsys.readouterr().err
