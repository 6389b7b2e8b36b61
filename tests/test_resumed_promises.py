"""Runs with a memory that are interrupted: all columns but times are equal."""

import keras
import numpy as np
import pytest
from conftest import columns_without_time
from conftest import smoothed
from keras import ops

import keras_smoothing as ks
from keras_smoothing.logs import CertificationLog

SEARCH = ks.DataDependentSigma(0.05, 2.0, steps=5, num_draws=50)
ELLIPSES = ks.ANCER(SEARCH, steps=5)
COUNT = 40  # Three windows, the last of them short.


@keras.saving.register_keras_serializable(package="tests")
class Bands(keras.layers.Layer):
    """Logits of class 0 on narrow bands, of class 1 between them."""

    def call(self, x):
        logit = 10 * (ops.cos(2 * np.pi * x[:, :1]) - 0.6)
        return ops.concatenate([logit, ops.zeros_like(logit)], axis=1)


class Interruption(BaseException):
    """What stops a run in its tracks."""


@pytest.fixture(scope="module")
def model():
    base = keras.Sequential([keras.Input((2,)), Bands()])
    return smoothed(base, sigma=0.1)


@pytest.fixture(scope="module")
def x():
    # Close to each other, so that many are answered by others; in float64, so
    # that all are rounded.
    return np.random.default_rng(0).uniform(-1, 1, (COUNT, 2))


SCENARIOS = {
    "one sigma": dict(),
    "a sigma each": dict(sigma=SEARCH),
    "a sigma for each coordinate": dict(sigma=ELLIPSES),
    "a total": dict(sigma=SEARCH, total_alpha=0.3),
    "float32": dict(sigma=SEARCH, dtype="float32"),
}


@pytest.fixture(params=SCENARIOS)
def run(request, model, x, tmp_path):
    """A run under a memory that was used before, and what it leaves behind."""
    scenario = dict(SCENARIOS[request.param])
    total = scenario.pop("total_alpha", None)
    points = x.astype(scenario.pop("dtype", "float64"))
    calls = dict(n0=20, n=300, alpha=0.05, verbose=0, **scenario)

    def begin(name):
        path = tmp_path / f"{name}.sqlite"
        with ks.CertificationMemory(path, total) as memory:
            earlier = points[:3] + 0.01
            model.certify(earlier, memory=memory, seed=7, **calls)
        return path

    def go(name, stop=COUNT):
        log = tmp_path / f"{name}.tsv"
        with ks.CertificationMemory(tmp_path / f"{name}.sqlite") as memory:
            model.certify(
                points[:stop], memory=memory, log=log, seed=1, **calls
            )
        return log

    def left(name):
        with ks.CertificationMemory(tmp_path / f"{name}.sqlite") as memory:
            return (
                [(x.tolist(), repr(promise)) for x, promise in memory],
                memory.num_queries,
                memory.alpha_spent,
            )

    go.begin, go.left = begin, left
    begin("undisturbed")
    go.expected = columns_without_time(go("undisturbed"))
    heading, *rows = go.expected
    drawn = [int(row[heading.index("num_samples")]) > 0 for row in rows]
    assert 0 < sum(drawn) < COUNT  # Some are answered by promises.
    return go


def interrupt(patch, owner, name, which, after):
    """Stops the call `which` of a method, before or after it is done."""
    original, calls = getattr(owner, name), []

    def stopping(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == which and not after:
            raise Interruption
        result = original(self, *arguments, **keywords)
        if len(calls) == which:
            raise Interruption
        return result

    patch.setattr(owner, name, stopping)


@pytest.mark.parametrize(
    "owner, name, after",
    [
        (CertificationLog, "begin", True),
        (ks.CertificationMemory, "spend", True),
        (ks.CertificationMemory, "keep", True),
        (ks.CertificationMemory, "promise", False),
        (ks.CertificationMemory, "promise", True),
        (CertificationLog, "append", False),
        (CertificationLog, "append", True),
    ],
)
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    run, monkeypatch, owner, name, after
):
    run.begin("resumed")
    for which in (1, 2, 1, 3):
        with monkeypatch.context() as patch:
            interrupt(patch, owner, name, which, after)
            try:
                run("resumed")
            except Interruption:
                pass
    log = run("resumed")
    assert columns_without_time(log) == run.expected
    assert run.left("resumed") == run.left("undisturbed")


def test_rows_that_were_cut_off_are_found_again(run):
    run.begin("resumed")
    log = run("resumed")
    lines = log.read_bytes().splitlines(keepends=True)
    for kept in (0, 1, 15, 16, 17, COUNT - 1):
        cut = b"".join(lines[: kept + 1]) + lines[kept + 1][:9]
        log.write_bytes(cut)
        run("resumed")
        assert columns_without_time(log) == run.expected, kept
    assert run.left("resumed") == run.left("undisturbed")


def test_a_run_goes_on_beside_others(model, x, tmp_path):
    # What others promised meanwhile changes nothing that was answered.
    calls = dict(n0=20, n=300, alpha=0.05, seed=1, sigma=SEARCH, verbose=0)
    log = tmp_path / "run.tsv"
    with ks.CertificationMemory() as memory:
        model.certify(x, memory=memory, log=log, **calls)
        expected = columns_without_time(log)
        lines = log.read_bytes().splitlines(keepends=True)
        other = np.random.default_rng(1).uniform(-1, 1, (40, 2))
        model.certify(other, memory=memory, **{**calls, "seed": 2})
        spent = memory.num_queries
        log.write_bytes(b"".join(lines[:21]))
        model.certify(x, memory=memory, log=log, **calls)
        assert memory.num_queries == spent
    assert columns_without_time(log) == expected


def test_two_logs_of_one_memory_are_two_runs(model, x, tmp_path):
    # Of one seed and the same examples, begun at different times.
    calls = dict(n0=20, n=300, alpha=0.05, seed=1, verbose=0)
    with ks.CertificationMemory() as memory:
        model.certify(x[:16], memory=memory, log=tmp_path / "one", **calls)
        promised = len(memory)
        two = model.certify(
            x[:16], memory=memory, log=tmp_path / "two", **calls
        )
        assert (two.num_samples[two.radius > 0] == 0).all()
        assert len(memory) == promised


def test_another_example_is_not_told_what_one_was(model, x, tmp_path):
    calls = dict(n0=20, n=300, alpha=0.05, seed=1, verbose=0)
    log = tmp_path / "run.tsv"
    with ks.CertificationMemory() as memory:
        model.certify(x[:16], memory=memory, log=log, **calls)
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[:9]))
        changed = x[:16].copy()
        changed[12] += 5.0
        resumed = model.certify(changed, memory=memory, log=log, **calls)
        alone = model.certify(changed[12:13], memory=memory, **calls)
    assert alone.prediction[0] == resumed.prediction[12]
    assert alone.radius[0] == resumed.radius[12]


def test_answers_that_were_damaged_are_refused(model, x, tmp_path):
    import sqlite3

    path, log = tmp_path / "memory.sqlite", tmp_path / "run.tsv"
    calls = dict(n0=20, n=300, alpha=0.05, seed=1, verbose=0, log=log)
    with ks.CertificationMemory(path) as memory:
        model.certify(x[:16], memory=memory, **calls)
    database = sqlite3.connect(path)
    database.execute(
        "UPDATE keras_smoothing_answers "
        "SET answer = replace(answer, 'true', 'false')"
    )
    database.commit()
    database.close()
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:5]))
    with (
        ks.CertificationMemory(path) as memory,
        pytest.raises(ValueError, match="answers to a run as they were"),
    ):
        model.certify(x[:16], memory=memory, **calls)
