import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import columns_without_time
from conftest import rechain
from conftest import smoothed
from conftest import to_format

import keras_smoothing as ks
from keras_smoothing import private_files
from keras_smoothing.logs import fingerprint
from keras_smoothing.sampling import VoteSampler

SETTINGS = dict(n0=20, n=500, alpha=0.01, seed=4, verbose=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.tsv"


@pytest.fixture
def run(digits_model, digits, path):
    def certify(stop=64, **arguments):
        x, y = digits
        settings = {**SETTINGS, "log": path, **arguments}
        return digits_model.certify(x[:stop], y[:stop], **settings)

    return certify


def test_log_gives_the_result_back(run, path):
    result = run()
    read = ks.read_log(path)
    names = ("prediction", "radius", "p_lower", "counts", "num_samples")
    for name in (*names, "digest", "index"):
        np.testing.assert_array_equal(
            getattr(read, name), getattr(result, name), name
        )
    np.testing.assert_array_equal(read.index, np.arange(64))
    np.testing.assert_array_equal(read.label, result.label)
    np.testing.assert_allclose(read.time, result.time, rtol=1e-5)
    assert repr(read.noise) == repr(result.noise)
    assert (read.alpha, read.seed) == (0.01, 4)
    np.testing.assert_array_equal(
        read.recertify(0.001).radius, result.recertify(0.001).radius
    )


def test_the_rounding_of_an_input_is_kept(run, path, digits, digits_model):
    x, y = digits
    x = x.astype("float64")
    x[::2] *= 1 + 1e-12
    result = digits_model.certify(x, y, log=path, **SETTINGS)
    assert (result.rounding[::2] > 0).all() and not result.rounding[1::2].any()
    read = ks.read_log(path)
    for name in ("rounding", "radius", "prediction"):
        np.testing.assert_array_equal(
            getattr(read, name), getattr(result, name), name
        )
    resumed = digits_model.certify(x, y, log=path, **SETTINGS)
    np.testing.assert_array_equal(resumed.radius, result.radius)
    # What it is rounded to is another example.
    with pytest.raises(ValueError, match="of other examples.*rounding"):
        run()


def test_a_log_from_before_roundings_is_read(run, path):
    result = run()
    to_format(path, 5, without=["rounding"])
    with pytest.warns(UserWarning, match="format 5, .* not bound to their"):
        read = ks.read_log(path)
    np.testing.assert_array_equal(read.radius, result.radius)
    assert not read.rounding.any()
    with pytest.raises(ValueError, match="of an earlier version"):
        run()


@pytest.mark.parametrize("rounding", ["-1e-3", "nan", "inf", "0.01"])
def test_a_rounding_that_is_none_is_refused(run, path, rounding):
    run()
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    rows[3][rows[0].index("rounding")] = rounding
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    rechain(path)
    with pytest.raises(ValueError, match="expected, .* received|row 2"):
        ks.read_log(path)


def test_first_columns_are_the_fields_own_and_rounded_down(run, path):
    result = run()
    header, *rows = [r.split("\t") for r in path.read_text().splitlines()]
    assert header[:6] == "idx label predict radius correct time".split()
    assert len(rows) == 64
    for i, row in enumerate(rows):
        assert [int(row[0]), int(row[1]), int(row[2])] == [
            i,
            result.label[i],
            result.prediction[i],
        ]
        assert result.radius[i] - 1.1e-6 <= float(row[3]) <= result.radius[i]
        assert int(row[4]) == result.correct[i]
        assert float(row[6]) <= result.p_lower[i]


def test_an_analysis_script_of_the_field_reads_it(run, path):
    import pandas as pd

    result = run()
    frame = pd.read_csv(path, delimiter="\t")
    share = (frame["correct"] & (frame["radius"] >= 0.25)).mean()
    assert share == result.certified_accuracy(0.25)


@pytest.mark.parametrize("rows", [0, 1, 31, 32, 40])
@pytest.mark.parametrize("half_line", [b"", b"12\t3\t3\t0.1"])
def test_resume_equals_an_undisturbed_run(run, path, rows, half_line):
    whole = run()
    expected = columns_without_time(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: rows + 1]) + half_line)
    resumed = run()
    assert columns_without_time(path) == expected
    np.testing.assert_array_equal(resumed.counts, whole.counts)
    np.testing.assert_array_equal(resumed.radius, whole.radius)


def test_a_heading_cut_off_starts_again(run, path):
    run()
    expected = columns_without_time(path)
    path.write_bytes(b"idx\tlab")
    run()
    assert columns_without_time(path) == expected


def test_a_finished_run_draws_nothing(run, path, monkeypatch):
    whole = run()
    before = path.read_bytes()
    monkeypatch.setattr(
        "keras_smoothing.sampling.vote_sampler.VoteSampler.count",
        lambda *_, **__: pytest.fail("a finished run was sampled again"),
    )
    np.testing.assert_array_equal(run().radius, whole.radius)
    assert path.read_bytes() == before


def test_more_examples_extend_a_log(run, path):
    run(stop=10)
    run(stop=40)
    whole = ks.read_log(path)
    np.testing.assert_array_equal(whole.counts, run(stop=40, log=None).counts)


def cut(path, rows):
    """As a run that was killed after so many rows leaves a log."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: rows + 1]) + b"9\t1")


def test_no_seed_resumes_with_the_seed_of_the_log(run, path):
    first = run(stop=10, seed=None)
    cut(path, 4)
    again = run(stop=10, seed=None)
    assert again.seed == first.seed
    np.testing.assert_array_equal(again.counts, first.counts)
    assert run(stop=10, seed=None).seed == first.seed


def test_a_seed_that_can_be_read_is_not_for_further_examples(run, path):
    first = run(stop=10, seed=None)
    cut(path, 4)
    rows = path.read_bytes()
    with pytest.raises(ValueError, match="at most 10 .*another log"):
        run(stop=11, seed=None)
    assert path.read_bytes() == rows
    run(stop=10, seed=None)
    # Who says the seed answers for it.
    assert len(run(stop=12, seed=first.seed)) == 12
    assert len(run(stop=12, seed=None)) == 12
    with pytest.raises(ValueError, match="at most 10 .*another log"):
        run(stop=13, seed=None)


def test_further_examples_of_a_stream_are_refused_when_they_come(
    run, path, digits, digits_model
):
    run(stop=10, seed=None)
    x, y = digits
    batches = tf.data.Dataset.from_tensor_slices((x[:11], y[:11])).batch(4)
    assert batches.cardinality() == 3  # Not how many examples.
    settings = {**SETTINGS, "seed": None, "log": path}
    again = digits_model.certify(batches.unbatch().take(10), **settings)
    assert len(again) == 10
    with pytest.raises(ValueError, match="at most 10 .*another log"):
        digits_model.certify(batches, **settings)


def test_a_log_that_does_not_know_its_size_resumes_as_before(run, path):
    first = run(stop=5, seed=None)
    sidecar = path.with_name(path.name + ".json")
    settings = json.loads(sidecar.read_text())
    assert settings.pop("num_examples") == 5
    sidecar.write_text(json.dumps(settings))
    rechain(path)
    assert run(stop=10, seed=None).seed == first.seed
    for damaged in ("5", 0, 2.5, [5]):
        sidecar.write_text(json.dumps({**settings, "num_examples": damaged}))
        with pytest.raises(ValueError, match="Expected settings of a cert"):
            run(stop=10, seed=None)


@pytest.mark.slow
def test_kill_and_run_again(digits_file, tmp_path):
    script = textwrap.dedent("""
        import sys, keras
        import keras_smoothing as ks
        model = keras.saving.load_model(sys.argv[1])
        x, y = ks.datasets.load("digits", "test")
        model.certify(x, y, n=4_000, seed=0, verbose=0, log=sys.argv[2])
    """)

    def command(path):
        return [sys.executable, "-c", script, str(digits_file), str(path)]

    undisturbed, killed = tmp_path / "undisturbed.tsv", tmp_path / "killed.tsv"
    subprocess.run(command(undisturbed), check=True)
    interruptions = 0
    for pause in (0.0, 0.15, 0.4):
        process = subprocess.Popen(command(killed))
        while process.poll() is None and not killed.exists():
            time.sleep(0.01)
        time.sleep(pause)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            interruptions += 1
        process.wait()
    assert interruptions
    subprocess.run(command(killed), check=True)
    assert columns_without_time(killed) == columns_without_time(undisturbed)


@pytest.mark.parametrize(
    "change,name",
    [
        (
            dict(n=501),
            "stopping.config.n=501. Received: stopping.config.n=500",
        ),
        (
            dict(n=None, stopping=ks.AdaptiveSampling([0.0], max_n=500)),
            "stopping.class_name='AdaptiveSampling'",
        ),
        (dict(top_k=2), "top_k=2. Received: top_k=1"),
        (dict(n0=21), "n0=21. Received: n0=20"),
        (dict(alpha=0.02), "alpha=0.02. Received: alpha=0.01"),
        (dict(seed=5), "seed=5. Received: seed=4"),
    ],
)
def test_a_log_of_other_settings_is_refused(run, path, change, name):
    run()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"of another run. Expected {name}"):
        run(**change)
    assert path.read_bytes() == before


def test_a_log_of_another_noise_or_model_is_refused(
    run, path, digits, digits_model
):
    run()
    x, y = digits
    other = smoothed(digits_model.base_model, sigma=0.5)
    with pytest.raises(ValueError, match="noise.config.sigma=0.5. .*=0.25"):
        other.certify(x, y, log=path, **SETTINGS)
    weights = digits_model.get_weights()
    weights[0] = weights[0] + 1e-6
    digits_model.set_weights(weights)
    with pytest.raises(ValueError, match="Expected model="):
        run()


def test_a_log_of_other_examples_is_refused(run, path, digits, digits_model):
    run()
    before = path.read_bytes()
    x, y = digits
    for bad_x, bad_y, message in (
        (x[::-1], y[::-1], "Expected digest"),
        (x, (y + 1) % 10, "Expected label"),
        (x, None, "Expected label None"),
        (x[:9], y[:9], "Expected at most 9. Received: 64"),
    ):
        with pytest.raises(ValueError, match=message):
            digits_model.certify(bad_x, bad_y, log=path, **SETTINGS)
    assert path.read_bytes() == before


def test_a_foreign_log_is_refused(run, path):
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n")
    with pytest.raises(ValueError, match="Expected a log of this library"):
        run()
    assert path.read_text().count("\n") == 1


def test_a_missing_folder_is_refused(run, tmp_path):
    for log in (tmp_path / "missing" / "run.tsv", tmp_path):
        with pytest.raises(ValueError, match="in an existing folder"):
            run(log=log)
    assert not list(tmp_path.iterdir())


def damaged(text):
    lines = text.splitlines()
    short = lines[5].rsplit("\t", 3)[0]
    votes = lines[5].replace(":", ":9")
    return {
        "cut off in its last line": text[:-3],
        "line 6": "\n".join([*lines[:5], short, *lines[6:]]) + "\n",
        "idx 4 expected": "\n".join(lines[:5] + lines[6:]) + "\n",
        "more received": "\n".join([*lines[:5], votes, *lines[6:]]) + "\n",
        "with columns": text.replace("predict", "answer"),
    }


def test_damaged_logs_are_refused(run, path):
    run()
    for message, text in damaged(path.read_text()).items():
        path.write_text(text)
        if text.endswith("\n"):
            rechain(path)
        with pytest.raises(ValueError, match=message):
            ks.read_log(path)


@pytest.mark.parametrize(
    "name,text",
    [
        ("time", "nan"),
        ("time", "-1"),
        ("time", "1_0.5"),
        ("label", "1_0"),
        ("label", "\u0663"),
        ("label", "9" * 20),
        ("nan_draws", "9" * 20),
    ],
)
def test_numbers_that_no_run_writes_are_refused(run, path, name, text):
    run(stop=4)
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    rows[3][rows[0].index(name)] = text
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    rechain(path)
    with pytest.raises(ValueError, match="Received: line 4 of .* expected, "):
        ks.read_log(path)


def test_a_log_without_its_settings_is_not_read_as_another(run, path):
    run(stop=4)
    path.with_name("run.tsv.json").unlink()
    with pytest.raises(ValueError, match="settings of a log .* Copy both"):
        ks.read_log(path)


def test_a_damaged_sidecar_is_refused(run, path):
    run()
    sidecar = path.with_name("run.tsv.json")
    assert json.loads(sidecar.read_text())["n0"] == 20
    for text in ("{", "[]", "{}"):
        sidecar.write_text(text)
        with pytest.raises(ValueError, match="Expected settings"):
            ks.read_log(path)
        with pytest.raises(ValueError, match="Expected settings"):
            run()


def test_rows_that_do_not_follow_from_the_settings_are_refused(
    run, path, tmp_path, digits, digits_model
):
    # A log put in the place of another one, with other noise.
    run()
    x, y = digits
    other = smoothed(digits_model.base_model, sigma=0.05)
    settings = {**SETTINGS, "log": tmp_path / "other.tsv"}
    other.certify(x, y, **settings)
    path.write_bytes(settings["log"].read_bytes())
    rechain(path)
    for read in (lambda: ks.read_log(path), run):
        with pytest.raises(ValueError, match="rows that follow from their"):
            read()


def test_an_edited_radius_is_refused(run, path):
    result = run()
    lines = path.read_text().splitlines()
    row = lines[3].split("\t")
    assert float(row[3]) > 0
    for radius in (result.radius[2] + 1e-4, result.radius[2] - 1e-4):
        row[3] = f"{radius:.6f}"
        path.write_text("\n".join([*lines[:3], "\t".join(row), *lines[4:], ""]))
        rechain(path)
        with pytest.raises(ValueError, match="Received: row 2"):
            ks.read_log(path)


def test_settings_of_another_format_are_refused(run, path):
    run()
    sidecar = path.with_name("run.tsv.json")
    settings = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**settings, "format": 1}))
    with pytest.raises(ValueError, match="Expected settings"):
        ks.read_log(path)


def test_two_runs_do_not_write_one_log(
    run, path, digits, digits_model, monkeypatch
):
    # The second run starts, and writes, before the first one does.
    x, y = digits
    other = smoothed(digits_model.base_model, sigma=0.05)

    original = VoteSampler.count
    calls = []

    def count(self, *arguments, **settings):
        if not calls:
            calls.append(1)
            other.certify(x, y, log=path, **SETTINGS)
        return original(self, *arguments, **settings)

    monkeypatch.setattr(VoteSampler, "count", count)
    with pytest.raises(ValueError, match="another process writes"):
        run()
    assert ks.read_log(path).noise.sigma == 0.05


def test_two_runs_do_not_write_one_log_at_once(run, path, monkeypatch):
    expected = run(stop=8, log=None)
    replace, caught = private_files.replace, []

    def run_too():
        try:
            run(stop=8)
        except ValueError as error:
            caught.append(str(error))

    def in_the_middle(path, data):
        monkeypatch.undo()
        other.start()
        other.join(2)
        replace(path, data)

    other = threading.Thread(target=run_too)
    monkeypatch.setattr(private_files, "replace", in_the_middle)
    run(stop=8)
    other.join()
    assert len(caught) == 1 and "another process writes" in caught[0]
    np.testing.assert_array_equal(ks.read_log(path).counts, expected.counts)


def test_what_is_no_log_is_refused(tmp_path, path):
    with pytest.raises(ValueError, match="Expected a certification log"):
        ks.read_log(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="Expected a certification log"):
        ks.read_log(path)
    path.write_text("")
    with pytest.raises(ValueError, match="columns"):
        ks.read_log(path)


def test_a_lambda_is_known_again_in_a_file(tmp_path):
    def model(function):
        keras.utils.set_random_seed(0)
        layer = keras.layers.Lambda(function)
        return keras.Sequential(
            [keras.Input((3,)), layer, keras.layers.Dense(2)]
        )

    one = model(lambda x: 2 * x + len("one"))
    one.save(tmp_path / "one.keras")
    loaded = keras.saving.load_model(tmp_path / "one.keras", safe_mode=False)
    assert fingerprint(loaded) == fingerprint(one)
    other = model(lambda x: 3 * x + len("one"))
    assert fingerprint(other) != fingerprint(one)


class Steep:
    """An activation that Keras has no configuration of."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, x):
        return self.slope * x


def scaled(x, slope=1.0):
    return slope * x


def ones(shape, dtype=None):
    return keras.ops.ones(shape, dtype)


# As typed into a shell, whose lines are in no file.
UNWRITTEN = eval("lambda x: 2 * x")


class Sum(keras.regularizers.Regularizer):
    def __call__(self, kernel):
        return keras.ops.sum(kernel)


def dense(**arguments):
    keras.utils.set_random_seed(0)
    first = keras.layers.Dense(2, **arguments)
    return keras.Sequential([keras.Input((3,)), first, keras.layers.Dense(2)])


@pytest.mark.parametrize(
    "arguments",
    [
        dict(kernel_initializer=lambda shape, dtype=None: ones(shape, dtype)),
        dict(kernel_initializer=functools.partial(ones)),
        dict(kernel_regularizer=Sum()),
        dict(activation=UNWRITTEN),
        dict(activation=Steep(np.float32(2.0))),
    ],
    ids=("lambda", "partial", "regularizer", "shell", "object"),
)
def test_what_keras_cannot_save_is_certified(arguments, path):
    x = np.ones((2, 3), "float32")
    for base in (dense(**arguments), dense(**arguments)):
        result = smoothed(base).certify(x, log=path, **SETTINGS)
        assert len(result) == 2
    with pytest.raises(ValueError, match="is of another run.*model"):
        smoothed(dense(name="other")).certify(x, log=path, **SETTINGS)


@pytest.mark.parametrize(
    "one,other",
    [
        (Steep(2.0), Steep(3.0)),
        (Steep(np.arange(2.0)), Steep(np.arange(2.0) + 1e-12)),
        (functools.partial(scaled, slope=2.0), functools.partial(scaled)),
        (functools.partial(Steep(2.0)), functools.partial(Steep(3.0))),
        (UNWRITTEN, eval("lambda x: 3 * x")),
    ],
    ids=("object", "array", "partial", "nested", "shell"),
)
def test_activations_that_keras_cannot_save_are_told_apart(one, other):
    same, again = (fingerprint(dense(activation=one)) for _ in range(2))
    assert same == again != fingerprint(dense(activation=other))


def test_how_layers_are_connected_is_seen_beside_an_odd_one():
    def model(swapped):
        keras.utils.set_random_seed(0)
        x = keras.Input((3,))
        one, other = (keras.layers.Dense(3, Steep(s)) for s in (2.0, 3.0))
        one, other = one(x), other(x)
        if swapped:
            one, other = other, one
        return keras.Model(x, keras.layers.Subtract()([one, other]))

    plain = fingerprint(model(False))
    assert plain == fingerprint(model(False)) != fingerprint(model(True))
    assert "get_config" not in vars(model(False).layers[1])


def test_every_value_of_an_array_in_a_configuration_counts():
    class Own(keras.Model):
        def __init__(self, table):
            super().__init__()
            self.table = table

        def get_config(self):
            return {"table": self.table}

    tables = np.zeros((3, 2_000))
    tables[1, 1_000] = 1.0
    tables[2, 0] = 1e-12
    assert len({fingerprint(Own(table)) for table in tables}) == 3
    keys = {(0, 1): 2, "one": 3, 4: 5}
    assert len(fingerprint(Own(keys))) == 64


@pytest.mark.skipif(
    keras.__version__ != "3.15.1", reason="other configurations"
)
def test_a_fingerprint_stays_what_it_was():
    # Logs and memories hold it.
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, "relu", kernel_initializer="ones"),
            keras.layers.Normalization(mean=[0.5, 1.0], variance=[1.0, 2.0]),
            keras.layers.Dense(2, scaled, kernel_initializer=ones),
        ]
    )
    assert fingerprint(model) == (
        "64f19268a758bfc8f8475cc279e68276ffe36d8e40299aa85e9844c049089166"
    )
