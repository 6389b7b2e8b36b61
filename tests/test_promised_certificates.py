"""Certificates and classes under a memory of earlier promises."""

import functools
import json
import types

import keras
import numpy as np
import pytest
from conftest import columns_without_time
from conftest import linear_model
from conftest import smoothed
from keras import ops
from scipy import stats

import keras_smoothing as ks
from keras_smoothing import certify
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes
from keras_smoothing.certificates.votes import majority
from keras_smoothing.certify import remembered
from keras_smoothing.logs import CertificationLog
from keras_smoothing.results import Record
from keras_smoothing.sampling.sampler import Sampler

SEARCH = ks.DataDependentSigma(0.05, 2.0, steps=30, num_draws=200)
SETTINGS = dict(
    n0=50, n=1_000, alpha=0.01, seed=0, verbose=0, check_independence=False
)


@keras.saving.register_keras_serializable(package="tests")
class Stripes(keras.layers.Layer):
    """Logits of class 0 on narrow stripes, of class 1 between them."""

    def call(self, x):
        logit = 10 * (ops.cos(2 * np.pi * x[:, :1]) - 0.6)
        return ops.concatenate([logit, ops.zeros_like(logit)], axis=1)


@pytest.fixture(scope="module")
def stripes():
    """A model of which sigma decides the class; a window of points."""
    base = keras.Sequential([keras.Input((2,)), Stripes()])
    x = np.random.default_rng(0).uniform(-4, 4, (120, 2)).astype("float32")
    return smoothed(base, sigma=0.1), x


@pytest.fixture
def memory():
    with ks.CertificationMemory() as memory:
        yield memory


def evidence(model, x, search=SEARCH, **settings):
    with pytest.warns(UserWarning, match="evidence about each input"):
        return model.certify(x, sigma=search, **{**SETTINGS, **settings})


def test_certificates_follow_the_rule_of_the_paper(stripes, memory):
    model, _ = stripes
    x = np.random.default_rng(0).uniform(-3, 3, (240, 2)).astype("float32")
    alone = evidence(model, x)
    result = model.certify(x, sigma=SEARCH, memory=memory, **SETTINGS)
    balls, clipped, inside = [], 0, 0
    for i, point in enumerate(x.astype("f8")):
        prediction, radius = alone.prediction[i], alone.radius[i]
        rests = [
            (r - np.linalg.norm(point - center), c) for center, r, c in balls
        ]
        held = [(rest, c) for rest, c in rests if rest >= 0]
        if held:
            inside += 1
            radius, prediction = max(held)
        elif prediction != ks.ABSTAIN:
            room = min([-rest for rest, c in rests if c != prediction] + [9])
            clipped += room < radius
            radius = min(radius, room)
            balls.append((point, radius, prediction))
        assert result.prediction[i] == prediction
        assert result.radius[i] == pytest.approx(radius, abs=1e-12)
    assert inside > 10 and clipped > 2 and len(memory) == len(balls) > 10
    assert result.deployable and result.promises is not None
    # Also of what was clipped no promise is enlarged.
    assert (result.recertify(0.005).radius <= result.radius).all()


def test_a_promise_is_kept_whoever_asks(stripes, memory):
    model, x = stripes
    result = model.certify(x, sigma=SEARCH, memory=memory, **SETTINGS)
    certified = result.radius > 0
    balls = len(memory)
    again = model.certify(
        x[::-1], sigma=SEARCH, memory=memory, **{**SETTINGS, "seed": 1}
    )
    np.testing.assert_array_equal(
        again.prediction[::-1][certified], result.prediction[certified]
    )
    assert (again.radius[::-1] >= result.radius)[certified].all()
    assert not again.num_samples[::-1][certified].any()
    # An attacker: points all over the balls, up to their borders.
    rng = np.random.default_rng(0)
    step = rng.normal(size=(40, *x[certified].shape))
    step *= rng.choice([0.5, 0.9, 1 - 1e-6], size=(40, 1, 1)) / (
        np.linalg.norm(step, axis=2, keepdims=True)
    )
    moved = x[certified] + step * result.radius[certified][:, np.newaxis]
    moved = moved.astype("float32")
    distance = np.linalg.norm(moved.astype("f8") - x[certified], axis=2)
    within = distance < result.radius[certified]
    promised = np.tile(result.prediction[certified], (40, 1))[within]
    moved = moved[within]
    calls = dict(sigma=SEARCH, n=200, alpha=0.01, seed=2)
    answers = model.classify(moved, memory=memory, **calls)
    np.testing.assert_array_equal(answers, promised)
    assert len(memory) <= balls + (~certified).sum()
    # Without the memory the same classifier gives some of them away.
    with pytest.warns(UserWarning, match="evidence about each input"):
        given_away = model.classify(moved[:400], **calls) != promised[:400]
    assert given_away.mean() > 0.02


def test_classify_votes_under_the_sigma_of_each_point(stripes):
    model, x = stripes
    certified = evidence(model, x)
    with pytest.warns(UserWarning, match="evidence about each input"):
        labels = model.classify(x, n=1_000, seed=1, sigma=SEARCH)
    both = (certified.radius > 0) & (labels != ks.ABSTAIN)
    np.testing.assert_array_equal(labels[both], certified.prediction[both])
    fixed = model.classify(x, n=1_000, seed=1)
    assert (labels != fixed)[both].any()


def test_a_promise_under_other_noise_keeps_its_sigma(stripes, memory):
    model, x = stripes
    other = smoothed(model.base_model, sigma=0.2)
    first = model.certify(x[:40], sigma=SEARCH, memory=memory, **SETTINGS)
    again = other.certify(x[:40], sigma=SEARCH, memory=memory, **SETTINGS)
    recalled = (again.num_samples == 0) & (first.radius > 0)
    assert recalled.sum() > 10
    np.testing.assert_array_equal(
        again.radius[recalled], first.radius[recalled]
    )
    for name in ("sigma", "volume_radius"):
        np.testing.assert_allclose(
            getattr(again, name)[recalled],
            getattr(first, name)[recalled],
            rtol=1e-12,
        )


def test_what_classify_says_is_promised_too(stripes, memory):
    model, x = stripes
    calls = dict(sigma=SEARCH, memory=memory, n=300, alpha=0.01)
    labels = model.classify(x[:40], seed=0, **calls)
    decided = labels != ks.ABSTAIN
    assert len(memory) == decided.sum() > 30
    again = model.classify(x[:40], seed=1, **calls)
    np.testing.assert_array_equal(labels[decided], again[decided])
    # The point is promised, and may be certified, as the same class.
    result = model.certify(x[:40], sigma=SEARCH, memory=memory, **SETTINGS)
    certified = result.radius > 0
    assert certified.sum() > 25
    certified &= decided
    np.testing.assert_array_equal(
        result.prediction[certified], labels[certified]
    )


def test_queries_of_one_batch_are_decided_in_order(stripes, memory):
    model, _ = stripes
    # The first is a class 1 of wide noise, the second lies in its ball.
    x = np.array([[0.5, 0], [0.0, 0], [0.5, 0], [0.0, 0]], "float32")
    wide = ks.DataDependentSigma(1.9, 2.0, steps=2, num_draws=100)
    narrow = ks.DataDependentSigma(0.05, 0.06, steps=2, num_draws=100)
    classes = [
        evidence(model, x[i : i + 1], search).prediction[0]
        for search, i in ((wide, 0), (narrow, 1))
    ]
    assert classes == [1, 0]
    result = model.certify(x, sigma=wide, memory=memory, **SETTINGS)
    np.testing.assert_array_equal(result.prediction, [1, 1, 1, 1])
    assert result.radius[1] == pytest.approx(result.radius[0] - 0.5)
    np.testing.assert_array_equal(result.radius[2:], result.radius[:2])
    later = model.certify(x, sigma=narrow, memory=memory, **SETTINGS)
    np.testing.assert_array_equal(later.radius, result.radius)
    # The other way round: the narrow ball stands, the wide one is clipped.
    with ks.CertificationMemory() as other:
        first = model.certify(x[1:], sigma=narrow, memory=other, **SETTINGS)
        np.testing.assert_array_equal(first.prediction, [0, 1, 0])
        point = np.array([[0.0, 3.0]], "float32")
        last = model.certify(point, sigma=wide, memory=other, **SETTINGS)
        assert last.prediction[0] == 1
        unclipped = evidence(model, point, wide).radius[0]
        assert last.radius[0] == pytest.approx(
            min(unclipped, 3 - first.radius[0]), abs=1e-9
        )


@pytest.mark.parametrize("rows", [1, 16, 31])
def test_a_run_with_a_memory_is_resumed(stripes, memory, tmp_path, rows):
    model, x = stripes
    calls = dict(sigma=SEARCH, **SETTINGS)
    log = tmp_path / "run.tsv"
    whole = model.certify(x[:40], memory=memory, log=log, **calls)
    expected = columns_without_time(log)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: 1 + rows]) + "7\t1")
    resumed = model.certify(x[:40], memory=memory, log=log, **calls)
    np.testing.assert_array_equal(resumed.prediction, whole.prediction)
    np.testing.assert_array_equal(resumed.radius, whole.radius)
    assert columns_without_time(log) == expected
    with ks.CertificationMemory() as empty:
        log.write_text("".join(lines[: 1 + rows]))
        with pytest.raises(ValueError, match="The memory .* is behind"):
            model.certify(x[:40], memory=empty, log=log, **calls)
    assert log.read_text() == "".join(lines[: 1 + rows])
    with ks.CertificationMemory() as other:
        other.bind(memory.identity.model, "l2", (2,))
        first = whole[0]
        other.promise(
            x[:1], first.prediction, first.radius / 2, first.scale, 0.01
        )
        with pytest.raises(ValueError, match="memory"):
            model.certify(x[:40], memory=other, log=log, **calls)


def test_a_crash_between_promise_and_log(stripes, tmp_path, monkeypatch):
    model, x = stripes
    calls = dict(sigma=SEARCH, log=tmp_path / "run.tsv", **SETTINGS)
    with ks.CertificationMemory() as memory:
        expected = model.certify(
            x[:40], memory=memory, sigma=SEARCH, **SETTINGS
        )
    path = tmp_path / "promises.sqlite"
    append = CertificationLog.append

    def crash(self, records):
        if len(self.records) >= 16:
            raise KeyboardInterrupt
        return append(self, records)

    with ks.CertificationMemory(path) as memory, monkeypatch.context() as patch:
        patch.setattr(CertificationLog, "append", crash)
        with pytest.raises(KeyboardInterrupt):
            model.certify(x[:40], memory=memory, **calls)
    with ks.CertificationMemory(path) as memory:
        promised = len(memory)
        result = model.certify(x[:40], memory=memory, **calls)
        assert len(memory) >= promised > 0
    np.testing.assert_array_equal(result.prediction, expected.prediction)
    np.testing.assert_array_equal(result.radius, expected.radius)
    read = ks.read_log(tmp_path / "run.tsv")
    np.testing.assert_array_equal(read.radius, result.radius)


def test_logs_keep_promises_and_scales(stripes, memory, tmp_path):
    model, x = stripes
    log = tmp_path / "run.tsv"
    result = model.certify(
        x[:60], sigma=SEARCH, memory=memory, log=log, **SETTINGS
    )
    assert len(set(result.scale)) > 10
    read = ks.read_log(log)
    for name in ("prediction", "radius", "scale", "mean_scale", "sigma"):
        np.testing.assert_array_equal(
            getattr(read, name), getattr(result, name), name
        )
    for alpha in (1e-4, 0.01, 0.1):
        np.testing.assert_array_equal(
            read.recertify(alpha).radius, result.recertify(alpha).radius
        )
    settings = json.loads((tmp_path / "run.tsv.json").read_text())
    assert settings["memory"]["num_promises"] == 0 and settings["deployable"]
    assert settings["sigma"]["config"] == SEARCH.get_config()


def test_at_another_alpha_no_promise_is_enlarged(stripes, memory):
    model, x = stripes
    model.certify(x[:30], sigma=SEARCH, memory=memory, **SETTINGS)
    result = model.certify(x, sigma=SEARCH, memory=memory, **SETTINGS)
    recalled = result.num_samples == 0
    assert 30 < recalled.sum() < len(x)
    same = result.recertify(0.01)
    np.testing.assert_array_equal(same.radius, result.radius)
    np.testing.assert_array_equal(same.prediction, result.prediction)
    larger, smaller = result.recertify(0.1), result.recertify(0.001)
    np.testing.assert_array_equal(larger.radius, result.radius)
    assert (smaller.prediction[recalled] == ks.ABSTAIN).all()
    drawn = ~recalled & (smaller.radius > 0)
    assert drawn.any()
    assert (smaller.radius <= result.radius).all()
    alone = evidence(model, x).recertify(0.001)
    assert (smaller.radius <= alone.radius)[drawn].all()


def test_votes_for_one_class_prove_no_promise_of_another():
    counts = np.array([[0, 1_000]] * 3)
    claim = Claim(ks.noise.Gaussian(0.5), 0.001, ks.FixedSampling(1_000))
    result = ks.CertificationResult.from_counts(
        np.array([1, 1, 1]),
        counts,
        counts.sum(axis=1),
        claim,
        label=None,
        time=np.zeros(3),
        promises={
            "prediction": np.array([1, 0, 0]),
            "radius": np.array([0.25, 0.25, 0.25]),
            "alpha": np.array([0.01, 0.01, 0.001]),
            "noise": np.array(["", "", ""]),
            "memory_alpha": np.full(3, np.nan),
        },
    )
    # The second was promised by a weaker claim, the third by one like this.
    np.testing.assert_array_equal(result.radius, [0.25, 0.0, 0.25])
    np.testing.assert_array_equal(result.prediction, [1, ks.ABSTAIN, 0])


COIN = Claim(ks.noise.Gaussian(0.5), 0.05, ks.FixedSampling(100))


def ask_until_answered(method, memory, rng):
    """Whether a point where the votes are even is ever answered."""
    x, index = np.zeros((1, 2), "float32"), np.arange(1)

    def counts():
        votes = rng.binomial(100, 0.5)
        return np.array([[votes, 100 - votes]])

    def decide(chunk, alpha):
        votes = Votes(counts(), np.array([100]))
        label, decided = majority(votes, alpha)
        return np.where(decided, label, ks.ABSTAIN), np.ones(1, np.float32)

    def sample(chunk):
        record = Record(
            *(None, int(rng.integers(2)), counts()[0], 100, 0, 1.0, 1.0, 0.0),
            *("digest", {}),
        )
        return [record], np.ones(1, np.float32)

    chunk = certify.Chunk(x, [None], index, np.zeros(1))
    for _ in range(10):
        if method == "classify":
            task = types.SimpleNamespace(claim=COIN, first=len(memory))
            (label,) = remembered.predict_new(memory, task, chunk, decide)
        else:
            no_votes = Votes(np.zeros((1, 2), np.int64), np.zeros(1, np.int64))
            keeper = remembered.Remembered(
                memory, COIN, no_votes, first=len(memory)
            )
            (record,) = keeper.certify(chunk, sample)
            label = record.promise.prediction
        if label != ks.ABSTAIN:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("method", ["classify", "certify"])
def test_asking_until_there_is_an_answer(method):
    # At a point where both classes are as probable every answer is wrong.
    rng, runs = np.random.default_rng(0), 400
    for total in (None, 0.05):
        wrong, spent = 0, []
        for _ in range(runs):
            with ks.CertificationMemory(total_alpha=total) as memory:
                memory.bind("a fingerprint", "l2", (2,))
                answered = ask_until_answered(method, memory, rng)
                wrong += answered
                # All were counted, those that abstained among them.
                assert answered or memory.num_queries == 10
                spent.append(memory.alpha_spent)
        if total is None:
            assert wrong > 0.25 * runs and max(spent) == pytest.approx(0.5)
        else:
            assert max(spent) <= total
            assert wrong <= stats.binom.ppf(1 - 1e-6, runs, total)


def test_queries_are_counted_and_the_sum_is_stated(
    tmp_path, capsys, monkeypatch
):
    def no_votes(*args, **kwargs):
        raise RuntimeError("no votes")

    model = smoothed(linear_model([1.0, 0.0]), sigma=0.5)
    # Certified; in its ball; a coin; far away.
    x = np.array([[0.5, 0], [0.6, 0], [0.0, 0], [-0.9, 9]], "float32")
    calls = dict(SETTINGS, n=500)
    log, page = tmp_path / "run.tsv", tmp_path / "page.html"
    with ks.CertificationMemory(tmp_path / "memory.sqlite") as memory:
        assert (memory.num_queries, memory.alpha_spent) == (0, 0.0)
        model.certify(x[:1], memory=memory, **calls)
        assert memory.num_queries == 1
        result = model.certify(x, memory=memory, log=log, **calls)
        np.testing.assert_array_equal(result.num_samples == 0, [1, 1, 0, 0])
        assert result.prediction[2] == ks.ABSTAIN
        assert memory.num_queries == 3
        assert result.memory_alpha == memory.alpha_spent == 0.03
        answers = model.classify(x, n=500, alpha=0.001, seed=0, memory=memory)
        assert answers[2] == ks.ABSTAIN
        assert (memory.num_queries, memory.alpha_spent) == (4, 0.031)
        # A model that fails has spent, too.
        with (
            monkeypatch.context() as patch,
            pytest.raises(RuntimeError, match="no votes"),
        ):
            patch.setattr(Sampler, "count", no_votes)
            model.certify(x[2:3], memory=memory, **calls)
        assert memory.num_queries == 5
    read = ks.read_log(log)
    assert read.memory_alpha == 0.03
    read.to_html(page)
    read.summary()
    shown = capsys.readouterr().out
    for text in (read.statement, shown, page.read_text()):
        words = " ".join(text.split())
        assert "0.03 in sum. For a sum fixed beforehand" in words
        assert "(`model.classify(x, memory=memory)`) answers" in words
    assert "add up to 0.03" in read._repr_html_()
    assert model.certify(x, **calls).memory_alpha is None


def test_a_total_is_shared_out_and_stated(tmp_path):
    model = smoothed(linear_model([1.0, 0.0]), sigma=0.5)
    x = np.arange(40, dtype="float32").reshape(20, 2) * 9 + 9
    calls = dict(SETTINGS, n=500, log=tmp_path / "run.tsv")
    with ks.CertificationMemory(total_alpha=0.02) as memory:
        result = model.certify(x, memory=memory, **calls)
        k = np.arange(1, 21)
        shares = np.minimum(0.01, 0.02 * 6 / (np.pi * k) ** 2)
        np.testing.assert_array_equal(result.promises["alpha"], shares)
        np.testing.assert_array_equal(
            [promise.alpha for _, promise in memory], shares
        )
        # Unanimous votes, of which the bound follows from the share.
        np.testing.assert_allclose(result.p_lower, shares ** (1 / 500))
        np.testing.assert_allclose(
            result.radius, 0.5 * stats.norm.ppf(shares ** (1 / 500))
        )
        assert memory.alpha_spent == result.memory_alpha < 0.02
        resumed = model.certify(x, memory=memory, **calls)
        assert memory.num_queries == 20
    np.testing.assert_array_equal(resumed.p_lower, result.p_lower)
    read = ks.read_log(tmp_path / "run.tsv")
    np.testing.assert_array_equal(read.radius, result.radius)
    np.testing.assert_array_equal(read.p_lower, result.p_lower)
    assert "1 - 0.02, all answers that it will ever give" in read.statement
    assert (read.recertify(0.05).radius <= result.radius).all()
    with (
        ks.CertificationMemory(total_alpha=0.03) as other,
        pytest.raises(ValueError, match="is of another run.*total_alpha=0.03"),
    ):
        model.certify(x, memory=other, **calls)


def test_examples_that_share_draws_with_a_promise_count(tmp_path):
    # Which examples a call answers by its own promises depends on its draws.
    model = smoothed(linear_model([1.0, 0.0]), sigma=0.5)
    x = np.tile(np.array([[0.9, 0.0]], "float32"), (40, 1))
    x[:, 1] = np.arange(40) / 1000
    with ks.CertificationMemory() as memory:
        result = model.certify(x, memory=memory, **SETTINGS)
        assert (result.num_samples == 0).sum() == 24
        assert memory.num_queries == 40
        again = model.certify(x, memory=memory, **SETTINGS)
        assert (again.num_samples == 0).all() and memory.num_queries == 40
        model.classify(x, memory=memory, n=100)
        assert memory.num_queries == 40
    # So they do where a run goes on.
    with ks.CertificationMemory() as memory:
        for part in (16, 40):
            calls = dict(SETTINGS, log=tmp_path / "run.tsv", memory=memory)
            model.certify(x[:part], **calls)
            assert memory.num_queries == part


def test_a_log_wants_the_memory_that_had_spent_as_much(tmp_path):
    model = smoothed(linear_model([1.0, 0.0]), sigma=0.5)
    x = np.array([[0.0, 0], [0.0, 9]], "float32")  # Both abstain.
    calls = dict(SETTINGS, log=tmp_path / "run.tsv")
    with ks.CertificationMemory() as memory:
        model.certify(x, memory=memory, **calls)
        model.certify(x, memory=memory, **calls)
        assert memory.num_queries == 2
    with (
        ks.CertificationMemory() as other,
        pytest.raises(ValueError, match="The memory .* is behind"),
    ):
        model.certify(x, memory=other, **calls)


def test_rows_name_the_noise_that_they_were_promised_under(tmp_path, capsys):
    base = linear_model([1.0, 0.0])
    x = np.array([[0.2, 0], [0.3, 0], [-0.2, 0], [5.0, 9]], "float32")
    log, page = tmp_path / "run.tsv", tmp_path / "page.html"
    with ks.CertificationMemory(tmp_path / "memory.sqlite") as memory:
        smoothed(base, sigma=0.1).certify(x[:3], memory=memory, **SETTINGS)
    with ks.CertificationMemory(tmp_path / "memory.sqlite") as memory:
        wide = smoothed(base, sigma=2.0)
        result = wide.certify(x, memory=memory, log=log, **SETTINGS)
        assert memory.look_up(x)[0].noise == "Gaussian(sigma=0.1)"
    noise = ["Gaussian(sigma=0.1)"] * 3 + ["Gaussian(sigma=2.0)"]
    np.testing.assert_array_equal(result.promises["noise"], noise)
    np.testing.assert_allclose(result.sigma, [0.1, 0.1, 0.1, 2.0])
    read = ks.read_log(log)
    np.testing.assert_array_equal(read.promises["noise"], noise)
    lines = log.read_text().splitlines()
    where = lines[0].split("\t").index("promised_noise")
    assert [line.split("\t")[where] for line in lines[1:]] == noise
    read.to_html(page)
    read.summary()
    shown = capsys.readouterr().out
    for text in (result.statement, shown, page.read_text()):
        words = " ".join(text.split())
        assert (
            "3 of 4 examples are answered by promises that were made under "
            "other noise: Gaussian(sigma=0.1)."
        ) in words
    assert "other noise" not in result[3:].statement


def test_hard_and_soft_votes_are_two_classifiers(memory, tmp_path):
    base = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, activation="softmax")]
    )
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    hard, soft = smoothed(base), smoothed(base, voting="soft")
    log = tmp_path / "run.tsv"
    one = hard.certify(x, log=log, **SETTINGS)
    other = soft.certify(x, **SETTINGS)
    assert "(`model.classify(x)`) answers" in one.statement
    assert "(`model.classify(x)`, by mean probability) ans" in other.statement
    with pytest.raises(ValueError, match="is of another run.*voting="):
        soft.certify(x, log=log, **SETTINGS)
    with pytest.raises(ValueError, match="one claim.*classifier"):
        ks.CertificationResult.concatenate([one, other])
    hard.certify(x, memory=memory, **SETTINGS)
    for call in (soft.certify, soft.classify):
        with pytest.raises(ValueError, match="Expected voting='soft'"):
            call(x, memory=memory, check_independence=False)


def test_threshold_and_output_are_part_of_the_classifier(memory):
    inputs = keras.Input((2,))
    outputs = {
        name: keras.layers.Dense(1, activation="sigmoid")(inputs)
        for name in ("a", "b")
    }
    base = keras.Model(inputs, outputs)
    x = np.zeros((1, 2), "float32")
    smoothed(base, output="a").certify(x, memory=memory, **SETTINGS)
    for changed in (dict(output="b"), dict(output="a", threshold=0.3)):
        with pytest.raises(ValueError, match="of another classifier.*model="):
            smoothed(base, **changed).classify(x, memory=memory)


def test_evidence_is_marked(stripes, memory, tmp_path):
    model, x = stripes
    log = tmp_path / "run.tsv"
    result = evidence(model, x[:4], log=log)
    assert not result.deployable and not ks.read_log(log).deployable
    for text in (repr(result), result._repr_html_(), repr(ks.read_log(log))):
        assert "evidence without a memory" in text
    assert not result.recertify(0.1).deployable
    kept = model.certify(x[:4], sigma=SEARCH, memory=memory, **SETTINGS)
    assert "evidence" not in repr(kept)
    with pytest.raises(ValueError, match="one claim.*deployable"):
        ks.CertificationResult.concatenate([result, kept])
    fixed = model.certify(x[:4], **SETTINGS)
    with pytest.raises(ValueError, match="promises='none'"):
        ks.CertificationResult.concatenate([fixed, kept])
    joined = ks.CertificationResult.concatenate([kept, kept[:2]])
    np.testing.assert_array_equal(
        joined.recertify(0.001).radius[4:], kept.recertify(0.001).radius[:2]
    )
    with pytest.raises(ValueError, match="is of another run.*classifier"):
        model.certify(x[:4], sigma=SEARCH, memory=memory, log=log, **SETTINGS)
    other = dict(log=tmp_path / "other.tsv", memory=memory, **SETTINGS)
    model.certify(x[:4], sigma=SEARCH, **other)
    with pytest.raises(ValueError, match="is of another run.*sigma=None"):
        model.certify(x[:4], **other)


def test_a_fixed_sigma_may_have_a_memory(stripes, memory):
    model, x = stripes
    result = model.certify(x, memory=memory, **SETTINGS)
    assert (result.scale == 1).all() and result.deployable
    labels = model.classify(x, memory=memory, n=100)
    certified = result.radius > 0
    np.testing.assert_array_equal(
        labels[certified], result.prediction[certified]
    )


def test_adaptive_sampling(stripes, memory):
    model, x = stripes
    settings = {**SETTINGS, "n": None}
    stopping = ks.AdaptiveSampling([0.0, 0.25], max_n=4_000)
    result = model.certify(
        x, stopping=stopping, sigma=SEARCH, memory=memory, **settings
    )
    assert len({*result.num_samples}) > 2
    assert (result.radius > 0.25).any()
    np.testing.assert_array_equal(result.recertify(0.01).radius, result.radius)


def test_orbits_are_promised(digits_model, digits, memory):
    x, y = digits
    model = ks.SmoothedModel(
        digits_model.base_model, digits_model.noise, group=ks.groups.D4()
    )
    search = ks.DataDependentSigma(0.1, 0.5, steps=5, num_draws=50)
    calls = dict(sigma=search, memory=memory)
    result = model.certify(x[:32], y[:32], **calls, **SETTINGS)
    assert result.distance == "l2 up to D4('channels_last')"
    certified = result.radius > 0
    assert certified.sum() >= 4
    turned = np.rot90(x[:32], axes=(1, 2))[:, ::-1][certified].copy()
    labels = model.classify(turned, n=100, seed=1, **calls)
    np.testing.assert_array_equal(labels, result.prediction[certified])
    again = model.certify(turned, **calls, **SETTINGS)
    np.testing.assert_array_equal(again.radius, result.radius[certified])
    assert not again.num_samples.any()
    with pytest.raises(ValueError, match="is of another.*symmetries"):
        digits_model.certify(x[:32], memory=memory, **SETTINGS)


def test_an_ellipsoid_is_promised(memory):
    # Only the first coordinate matters; sigma of the other is large.
    model = smoothed(
        keras.Sequential([keras.Input((2,)), Stripes()]), sigma=0.1
    )
    start = ks.DataDependentSigma(0.05, 0.5, steps=20, num_draws=200)
    search = ks.ANCER(start, steps=30, learning_rate=0.05)
    x = np.array([[0.5, 0.0]], "float32")
    calls = dict(sigma=search, memory=memory)
    result = model.certify(x, **calls, **SETTINGS)
    radius, volume = result.radius[0], result.volume_radius[0]
    assert 0.1 < radius < 0.98 * volume
    assert volume == radius * result.mean_scale[0] / result.scale[0]
    along = np.array([[0.5, 1.02 * radius]], "float32")
    across = np.array([[0.5 + 1.02 * radius, 0.0]], "float32")
    assert memory.look_up(along)[0].prediction == 1
    assert memory.look_up(across) == [None]
    recalled = model.certify(along, **calls, **SETTINGS)
    assert recalled.num_samples[0] == 0
    assert recalled.volume_radius[0] > recalled.radius[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("steps", [None, 10])
def test_a_point_is_certified_alone_as_in_a_window(steps):
    search = ks.DataDependentSigma(0.05, 0.5, steps=5, num_draws=50)
    search = search if steps is None else ks.ANCER(search, steps)
    # The others lie in the ball of the first, where sigma would be another.
    model = smoothed(
        keras.Sequential([keras.Input((2,)), Stripes()]), sigma=0.1
    )
    x = np.array([[0.5, 0.0], [0.52, 0.1], [0.6, 0.05]], "float32")
    with ks.CertificationMemory() as memory:
        together = model.certify(x, sigma=search, memory=memory, **SETTINGS)
    with ks.CertificationMemory() as memory:
        for i in range(3):
            alone = model.certify(
                x[i : i + 1], sigma=search, memory=memory, **SETTINGS
            )
            assert alone.prediction[0] == 1 and len(memory) == 1
            for name in ("radius", "volume_radius", "sigma", "num_samples"):
                assert getattr(together, name)[i] == getattr(alone, name)[0]


def test_adaptive_sampling_settles_the_radius_of_the_least_scale():
    model = smoothed(
        keras.Sequential([keras.Input((2,)), Stripes()]), sigma=0.1
    )
    start = ks.DataDependentSigma(0.05, 0.5, steps=20, num_draws=200)
    search = ks.ANCER(start, steps=30, learning_rate=0.05)
    x = np.linspace([0.5, 0.0], [0.7, 0.0], 16, dtype="float32")
    stopping = ks.AdaptiveSampling(np.linspace(0, 0.4, 17), max_n=4_000)
    settings = {"n": None, "stopping": stopping}
    result = evidence(model, x, search=search, **settings)
    stopped = result[result.num_samples < stopping.max_n]
    assert len(stopped) >= 4
    assert (stopped.mean_scale > 1.1 * stopped.scale).sum() >= 4
    for i in range(len(stopped)):
        one = stopped[i : i + 1]
        prove = functools.partial(
            one.claim.prove, candidate=one.candidate, scale=one.scale
        )
        votes = Votes(one.counts, one.num_samples)
        assert stopping.is_decided(prove, one.candidate, votes)


@pytest.mark.slow
def test_votes_of_serialized_smoothing_are_promised(memory):
    keras.utils.set_random_seed(0)
    cell = ks.equilibrium.cells.ContractiveDense(8, contraction=0.5)
    base = keras.Sequential(
        [
            keras.Input((4,)),
            ks.layers.DeepEquilibrium(cell),
            keras.layers.Dense(3),
        ]
    )
    model = smoothed(base)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    search = ks.DataDependentSigma(0.1, 0.5, steps=3, num_draws=20)
    calls = dict(sigma=search, memory=memory, serialized=ks.serialized.Exact())
    first = model.certify(x, **calls, **SETTINGS)
    again = model.certify(x, **calls, **SETTINGS)
    np.testing.assert_array_equal(first.prediction, again.prediction)
    both = ks.CertificationResult.concatenate([first, again])
    assert both.findings["steps"][: len(x)].all()
    labels = model.classify(x, n=200, **calls)
    certified = first.radius > 0
    assert certified.any()
    np.testing.assert_array_equal(
        labels[certified], first.prediction[certified]
    )


def test_nan_promises_nothing(memory):
    class Broken(keras.layers.Layer):
        def call(self, x):
            far = ops.any(ops.abs(x + 90.0) < 50.0, axis=-1, keepdims=True)
            return ops.where(far, float("nan"), 3.0 * x)

    model = smoothed(keras.Sequential([keras.Input((2,)), Broken()]))
    x = np.array([[-90.0, 0.0], [1.0, 0.0]], "float32")
    with (
        pytest.warns(UserWarning, match=r"example\(s\) \[0\] get the noise"),
        pytest.warns(UserWarning, match=r"abstains on example\(s\) \[0\]"),
    ):
        result = model.certify(x, sigma=SEARCH, memory=memory, **SETTINGS)
    np.testing.assert_array_equal(result.prediction, [ks.ABSTAIN, 0])
    assert len(memory) == 1


def test_bad_memories(stripes, memory):
    model, x = stripes
    model.certify(x[:2], memory=memory, **SETTINGS)
    with pytest.raises(ValueError, match="argument `memory`"):
        model.certify(x, memory="promises.sqlite", verbose=0)
    with pytest.raises(ValueError, match="top_k=1 with a memory"):
        three = smoothed(
            keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        )
        three.certify(x, top_k=2, memory=memory, **SETTINGS)
    with pytest.raises(ValueError, match="is of another classifier.*model"):
        smoothed(linear_model([1.0, 2.0])).classify(x, memory=memory)
    other = ks.SmoothedModel(model.base_model, ks.noise.Uniform(0.2))
    with pytest.raises(ValueError, match="is of another classifier.*norm"):
        other.certify(x, memory=memory, **SETTINGS)
    memory.close()
    with pytest.raises(ValueError, match="Expected an open memory"):
        model.certify(x, memory=memory, **SETTINGS)


def test_values_beside_which_the_least_sigma_is_lost(stripes, memory):
    model, _ = stripes
    x = np.full((1, 2), 1_000, "float32")
    model.certify(x, **SETTINGS)
    search = ks.DataDependentSigma(0.001, 2.0, steps=2)
    with pytest.raises(ValueError, match="values in `x` up to 16.3"):
        model.certify(x, sigma=search, memory=memory, **SETTINGS)


def test_uniform_noise_promises_in_l1(memory):
    base = keras.Sequential([keras.Input((2,)), Stripes()])
    model = ks.SmoothedModel(base, ks.noise.Uniform(0.2))
    x = np.random.default_rng(0).uniform(-4, 4, (40, 2)).astype("float32")
    result = model.certify(x, sigma=SEARCH, memory=memory, **SETTINGS)
    assert memory.identity.norm == "l1"
    assert (result.radius > 0.1).sum() > 5
    assert (result.radius <= np.sqrt(3) * result.sigma.max()).all()


def test_inputs_that_float32_rounds_keep_promises_and_get_them():
    # The second is rounded across the border of a half-space.
    half_spaces = [smoothed(linear_model([1.0, 0.0], -b)) for b in (0.5, -4.0)]
    below = np.array([[0.5 - 1e-9, 0.1], [0.5 - 1e-9, 5.0]])
    settings = dict(n=1_000, alpha=0.01, seed=0)
    for model, decided in zip(half_spaces, (False, True), strict=True):
        with ks.CertificationMemory() as memory:
            answers = model.classify(below, memory=memory, **settings)
            assert (answers == (0 if decided else ks.ABSTAIN)).all()
            # Each has a ball that reaches it, though but just.
            rounding = np.abs(below - below.astype("float32"))
            rounding = np.linalg.norm(rounding, axis=1)
            for (_, ball), least in zip(memory, rounding, strict=False):
                assert least <= ball.radius < 1e-7
            assert len(memory) == 2 * decided
            again = model.classify(below, memory=memory, **settings)
            np.testing.assert_array_equal(again, answers)
            result = model.certify(below, memory=memory, verbose=0, **settings)
            plain = model.certify(below, verbose=0, **settings)
            np.testing.assert_array_equal(result.prediction, plain.prediction)
            np.testing.assert_array_equal(result.radius, plain.radius)
            np.testing.assert_array_equal(result.rounding, plain.rounding)


def test_a_point_rounded_out_of_a_ball_is_not_given_another_class(tmp_path):
    path = tmp_path / "run.tsv"
    model = smoothed(linear_model([1.0], -0.5))
    settings = dict(n=400, alpha=0.05, verbose=0)
    center = np.array([[0.75]])
    with ks.CertificationMemory() as memory:
        result = model.certify(center, seed=0, memory=memory, **settings)
        assert result.prediction[0] == 0 and result.radius[0] > 0.1
        border = center - result.radius[0]
        steps = np.linspace(-3e-8, 3e-8, 61)[:, np.newaxis]
        near = border + steps
        for seed in range(3):
            answers = model.classify(near, seed=seed, memory=memory)
            assert not (answers[steps[:, 0] > 0] == 1).any()
        x = np.concatenate([center + 1e-9, near])
        results = [
            model.certify(x, seed=5, memory=memory, log=path, **settings)
            for _ in range(2)
        ]
        assert results[0].radius[0] <= result.radius[0] - 1e-9
        for name in ("radius", "prediction", "rounding"):
            first, second = (getattr(each, name) for each in results)
            np.testing.assert_array_equal(first, second)
            np.testing.assert_array_equal(
                first, getattr(ks.read_log(path), name)
            )
