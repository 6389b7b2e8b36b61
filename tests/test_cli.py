import subprocess
import sys
import warnings

import keras
import matplotlib
import numpy as np
import pytest
from conftest import columns_without_time
from conftest import linear_model
from conftest import small_convnet

import keras_smoothing as ks
from keras_smoothing import cli
from keras_smoothing.certificates.rounding import at_least

SMALL = ["--n0", "20", "--n", "200", "--alpha", "0.01"]


@pytest.fixture
def base_file(tmp_path):
    path = tmp_path / "base.keras"
    small_convnet().save(path)
    return str(path)


def test_certify_then_report(digits_file, tmp_path, capsys):
    matplotlib.use("Agg")
    log, plot = tmp_path / "run.tsv", tmp_path / "run.png"
    command = ["certify", str(digits_file), "--dataset", "digits"]
    command += ["--split", "test[:12]", "--seed", "0", "--verbose", "0"]
    assert cli.main([*command, *SMALL, "--log", str(log)]) == 0
    assert "12 examples, Gaussian(sigma=0.25)" in capsys.readouterr().out
    result = ks.read_log(log)
    assert len(result) == 12

    radii = ["--radii", "0", "0.25"]
    arguments = ["report", str(log), str(log), *radii, "--plot", str(plot)]
    assert cli.main(arguments) == 0
    table = capsys.readouterr().out
    share = at_least(result.certified_accuracy(0.25), ".1%")
    acr = at_least(result.average_certified_radius(), ".4f")
    assert share in table and acr in table
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["report", str(log)]) == 0
    described = "run: <CertificationResult of 12 examples, Gaussian(sigma=0.25)"
    assert described in capsys.readouterr().out


def test_adaptive_top_k_and_family_wise(digits_file, tmp_path, capsys):
    log = tmp_path / "run.tsv"
    command = ["certify", str(digits_file), "--dataset", "digits"]
    command += ["--split", "test[:12]", "--verbose", "0", "--log", str(log)]
    command += ["--n", "2000", "--top-k", "2", "--adaptive", "--family-wise"]
    assert cli.main(command) == 2
    assert "Expected --radii with --adaptive" in capsys.readouterr().err
    assert cli.main([*command, "--radii", "0", "0.25"]) == 0
    assert "top 2, Gaussian(sigma=0.25)" in capsys.readouterr().out
    result = ks.read_log(log)
    assert repr(result.stopping) == repr(
        ks.AdaptiveSampling([0.0, 0.25], max_n=2_000)
    )
    assert result.alpha == 0.001 / 12

    command = ["report", str(log), "--radii", "0", "0.25"]
    assert cli.main([*command, "--confidence", "0.9"]) == 0
    share = result.certified_accuracy(0.25, confidence=0.9)
    assert at_least(share, ".1%") in capsys.readouterr().out
    assert cli.main([*command, "--confidence", "2"]) == 2


def test_report_refuses_to_mix_norms(tmp_path, digits, capsys):
    x, y = digits
    for noise in (ks.noise.Gaussian(1.0), ks.noise.Laplace(1.0)):
        model = ks.SmoothedModel(small_convnet(), noise)
        log = tmp_path / f"{noise.norm}.tsv"
        model.certify(x[:2], y[:2], n=200, log=log, verbose=0)
    logs = [str(tmp_path / name) for name in ("l1.tsv", "l2.tsv")]
    assert cli.main(["report", *logs]) == 2
    assert "Received: l1 and l2" in capsys.readouterr().err


def test_report_describes_answers_of_other_shapes(tmp_path, capsys):
    base = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    x = np.zeros((2, 3), "float32")
    numbers, labels = str(tmp_path / "numbers.tsv"), str(tmp_path / "l.tsv")
    noise = ks.noise.Gaussian(0.5)
    settings = dict(n=100, alpha=0.1, seed=0, verbose=0)
    regression = ks.SmoothedRegression(base, noise)
    regression.certify(x, radii=[0.0, 0.1], log=numbers, **settings)
    multi_label = ks.SmoothedMultiLabel(base, noise)
    multi_label.certify(x, np.zeros((2, 2), int), log=labels, **settings)
    for log in (numbers, labels):
        plot = tmp_path / "plot.png"
        assert cli.main(["report", log, "--plot", str(plot)]) == 0
        assert "With probability at least" in capsys.readouterr().out
        assert plot.read_bytes().startswith(b"\x89PNG")
        plot.unlink()
        for more in ([numbers], ["--html", str(tmp_path / "page.html")]):
            assert cli.main(["report", log, *more]) == 2
            assert "one class for each example" in capsys.readouterr().err
        assert cli.main(["compare", log, log]) == 2
        assert "one radius for each example" in capsys.readouterr().err
    path = str(tmp_path / "model.keras")
    regression.save(path)
    assert cli.main(["certify", path, "--dataset", "digits"]) == 2
    assert "a SmoothedRegression, which" in capsys.readouterr().err


def test_a_model_without_noise_takes_sigma(base_file, capsys):
    command = ["certify", base_file, "--dataset", "digits", "--verbose", "0"]
    command += ["--split", "test[:3]", *SMALL]
    assert cli.main([*command, "--sigma", "0.5"]) == 0
    assert "sigma=0.5" in capsys.readouterr().out
    assert cli.main(command) == 2
    assert "Expected --sigma" in capsys.readouterr().err


@pytest.mark.slow
def test_plan(base_file, digits_file, capsys):
    assert cli.main(["plan", "--sigma", "1", "--n", "1000"]) == 0
    assert "1,100 noisy copies through the model\n" in capsys.readouterr().out
    command = ["plan", "--n", "1000", "--examples", "2", "--model"]
    assert cli.main([*command, base_file, "--sigma", "1"]) == 0
    assert (
        "2,200 noisy copies through the model, about" in capsys.readouterr().out
    )
    assert cli.main([*command, str(digits_file)]) == 0
    assert "above 0.6" in capsys.readouterr().out


@pytest.fixture(scope="module")
def equilibrium_file(tmp_path_factory):
    keras.utils.set_random_seed(0)
    cell = ks.equilibrium.cells.ContractiveDense(8)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            ks.layers.DeepEquilibrium(cell),
            keras.layers.Dense(10),
        ]
    )
    path = tmp_path_factory.mktemp("equilibrium") / "equilibrium.keras"
    model.save(path)
    return str(path)


PLAIN, EXACT = [], ["--serialized", "exact"]
AUDITED = ["--serialized", "audited", "--num-audited", "100", "--steps", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "form,others,finding",
    [(EXACT, (PLAIN, AUDITED), "unsettled"), (AUDITED, (EXACT,), "disagreed")],
    ids=["exact", "audited"],
)
def test_serialized(form, others, finding, equilibrium_file, tmp_path, capsys):
    log = tmp_path / "run.tsv"
    command = ["certify", equilibrium_file, "--dataset", "digits"]
    command += ["--sigma", "0.25", "--split", "test[:5]", "--seed", "0"]
    command += [*SMALL, "--verbose", "0", "--log", str(log)]
    assert cli.main([*command, *form]) == 0
    assert f"{finding}: " in capsys.readouterr().out
    found = ks.read_log(log).findings
    if form is AUDITED:
        # By 200 coins of 1/2, within five standard deviations.
        assert np.all(np.abs(found["audited"].sum(axis=1) - 100) < 36)
        # Two steps at most of each of 200 draws.
        assert np.all(found["steps"] <= 2 * 200)

    expected = columns_without_time(log)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]))
    assert cli.main([*command, *form]) == 0
    assert columns_without_time(log) == expected
    for other in others:
        assert cli.main([*command, *other]) == 2
        assert "of another run" in capsys.readouterr().err


def test_data_dependent(digits_file, tmp_path, capsys):
    log, memory = tmp_path / "run.tsv", tmp_path / "promises.sqlite"
    command = ["certify", str(digits_file), "--dataset", "digits", *SMALL]
    command += ["--split", "test[:6]", "--seed", "0", "--verbose", "0"]
    command += ["--log", str(log), "--data-dependent"]
    assert cli.main([*command, "0.2", "0.3", "--memory", str(memory)]) == 0
    assert "answered by earlier promises" in capsys.readouterr().out
    result = ks.read_log(log)
    assert (result.sigma >= 0.2 - 1e-6).all()
    assert (result.sigma <= 0.3 + 1e-6).all()
    with ks.CertificationMemory(memory) as promises:
        assert len(promises) == (result.radius > 0).sum() > 0
    # The same command resumes the run.
    assert cli.main([*command, "0.2", "0.3", "--memory", str(memory)]) == 0
    capsys.readouterr()
    assert cli.main([*command, "0.2"]) == 2
    assert "alone or with two numbers" in capsys.readouterr().err
    log.unlink()
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    assert "warning: Without a memory" in captured.err
    assert "evidence without a memory" in captured.out
    result = ks.read_log(log)
    assert not result.deployable
    assert (result.sigma >= 0.125 - 1e-6).all()
    assert (result.sigma <= 1 + 1e-6).all()


@pytest.mark.slow
def test_plan_of_serialized_smoothing(equilibrium_file, capsys):
    command = ["plan", "--sigma", "1", "--n", "1000", "--serialized"]
    assert cli.main([*command, "audited", "--num-audited", "100"]) == 0
    assert "with 100 of the draws audited" in capsys.readouterr().out
    model = ["--model", equilibrium_file, "--steps", "1"]
    assert cli.main([*command, "audited", *model]) == 0
    output = capsys.readouterr().out
    assert "s on this machine" in output and "of the draws audited" in output
    assert cli.main([*command, "audited", "--num-audited", "5"]) == 2
    error = capsys.readouterr().err
    assert "Expected more audits" in error and "--num-audited 5" in error
    assert cli.main([*command, "audited", "--n", "10"]) == 2
    assert "Expected --n >= 11 at alpha=0.001" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["certify", "plan"])
@pytest.mark.parametrize("option", ["--num-audited", "--steps"])
@pytest.mark.parametrize("form", [PLAIN, EXACT], ids=str)
def test_options_of_the_audited_form(
    command, option, form, equilibrium_file, capsys
):
    arguments = {
        "certify": ["certify", equilibrium_file, "--dataset", "digits"],
        "plan": ["plan", "--sigma", "1"],
    }[command]
    assert cli.main([*arguments, *form, option, "7"]) == 2
    error = capsys.readouterr().err
    assert f"Expected {option} with --serialized audited only. " in error
    assert error.endswith(f"Received: {option} 7\n")


def test_a_plan_that_certifies_nothing_is_an_error(capsys):
    command = ["plan", "--sigma", "1", "--alpha", "0.001", "--n"]
    assert cli.main([*command, "10"]) == 0
    capsys.readouterr()
    assert cli.main([*command, "9"]) == 2
    output = capsys.readouterr()
    assert "Expected --n >= 10 at alpha=0.001" in output.err
    assert not output.out


class Centred(keras.layers.Layer):
    def call(self, inputs):
        return inputs - keras.ops.mean(inputs, axis=0, keepdims=True)


def test_a_model_that_mixes_the_batch_can_be_insisted_on(
    tmp_path, monkeypatch, capsys
):
    base = keras.Sequential([*small_convnet().layers, Centred()])
    path = tmp_path / "base.keras"
    path.touch()
    monkeypatch.setattr("keras.saving.load_model", lambda path, **_: base)
    command = ["certify", str(path), "--dataset", "digits", "--sigma", "1"]
    command += ["--split", "test[:3]", "--verbose", "0", *SMALL]
    assert cli.main(command) == 2
    assert "what else is in the batch" in capsys.readouterr().err
    assert cli.main([*command, "--no-check-independence"]) == 0


OWN_LAYERS = """
import keras


class {name}(keras.layers.Layer):
    def call(self, inputs):
        return squash(2 * inputs)


@keras.saving.register_keras_serializable("{name}")
def squash(x):
    return keras.ops.tanh(x)
"""


def plan(path, *more):
    command = ["plan", "--n", "1000", "--sigma", "1", "--model", str(path)]
    return cli.main([*command, *more])


@pytest.mark.parametrize("ending", ["keras", "h5", "hdf5"])
def test_how_a_model_was_compiled_does_not_matter(ending, tmp_path, capsys):
    def own_loss(y, outputs):
        return keras.ops.mean(outputs)

    base = small_convnet()
    base.compile("adam", own_loss, metrics=[own_loss])
    path = tmp_path / f"base.{ending}"
    base.save(path)
    assert plan(path) == 0, capsys.readouterr().err
    if ending == "keras":
        model = ks.SmoothedModel(base, ks.noise.Gaussian(1.0))
        model.compile("adam", own_loss)
        model.save(path)
        assert plan(path) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_class_that_keras_does_not_know_is_imported(
    ending, tmp_path, monkeypatch, capsys
):
    name = f"Own{ending.title()}"
    path, module = tmp_path / f"own.{ending}", f"layers_of_{ending}"
    (tmp_path / f"{module}.py").write_text(OWN_LAYERS.format(name=name))
    write = (
        f"import keras, {module} as own\n"
        "layers = [keras.Input((8, 8, 1)), keras.layers.Flatten()]\n"
        f"layers += [own.{name}(), keras.layers.Dense(3, own.squash)]\n"
        f"keras.Sequential(layers).save({str(path)!r})"
    )
    subprocess.run([sys.executable, "-c", write], cwd=tmp_path, check=True)
    assert plan(path) == 2
    error = capsys.readouterr().err
    assert "Expected --import MODULE" in error and f"'{name}'" in error
    assert "register_keras_serializable" in error and error.count("\n") == 1
    assert plan(path, "--import", "no_such_module") == 2
    assert "--import no_such_module" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert plan(path, "--import", module) == 0, capsys.readouterr().err


def test_files_of_keras_2(tmp_path, capsys):
    tf_keras = pytest.importorskip("tf_keras")
    base = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 1)),
            tf_keras.layers.BatchNormalization(),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(3),
        ]
    )
    base.compile("adam", lambda y, outputs: outputs)
    for ending in ("h5", "keras"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # HDF5 is called legacy.
            base.save(tmp_path / f"base.{ending}")
    assert plan(tmp_path / "base.h5") == 0, capsys.readouterr().err
    assert plan(tmp_path / "base.keras") == 2
    assert "save it as .h5" in capsys.readouterr().err


def test_errors_are_one_line(digits_file, tmp_path, capsys):
    missing = str(tmp_path / "missing")
    odd = tmp_path / "odd.keras"
    linear_model([1.0]).save(odd)
    certify = ["certify", str(digits_file), "--dataset", "digits"]
    for command in (
        ["certify", missing, "--dataset", "digits"],
        ["certify", str(odd), "--dataset", "digits", "--sigma", "1"],
        [*certify, "--split", "nothing"],
        [*certify, "--n", "5"],
        [*certify, "--alpha", "2"],
        [*certify, "--sigma", "0.3"],
        [*certify, "--log", missing + "/run.tsv"],
        ["report", missing],
        ["plan", "--n", "0", "--sigma", "1"],
        ["plan", "--n", "9", "--sigma", "1"],
        ["plan", "--sigma", "1", "--serialized", "audited", "--steps", "0"],
        [*certify, "--serialized", "exact"],
        ["plan"],
    ):
        assert cli.main(command) == 2, command
        output = capsys.readouterr()
        assert output.err.count("\n") == 1, command
        assert output.err.startswith("keras-smoothing: error: "), command


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["unknown"],
        ["certify"],
        ["plan", "--n", "many"],
        ["plan", "--sigma", "1", "--serialized", "fast"],
        ["report"],
    ],
)
def test_wrong_usage_is_one_line(command, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(command)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_warnings_are_one_line(base_file, capsys):
    command = ["certify", base_file, "--dataset", "digits", "--sigma", "1"]
    command += ["--split", "test[:2]", "--n", "15", "--verbose", "0"]
    assert cli.main(command) == 0
    error = capsys.readouterr().err
    assert error.startswith("keras-smoothing: warning: n=15 draws")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_installed_command_exits_with_2():
    command = [sys.executable, "-m", "keras_smoothing.cli", "report", "missing"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
