"""The examples run from start to end, on little data and for a moment."""

import importlib
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_smoothing as ks

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run(script, folder, *arguments):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg"},
    ).stdout


@pytest.mark.slow
def test_quickstart(tmp_path):
    output = run(
        "quickstart.py",
        tmp_path,
        *("--epochs", "2", "--examples", "8", "--n", "200"),
    )
    for part in ("ACR", "certified", "What next", "keras-smoothing certify"):
        assert part in output
    model = keras.saving.load_model(tmp_path / "output" / "digits.keras")
    assert isinstance(model, ks.SmoothedModel)
    plot = tmp_path / "output" / "digits.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_equivariant_smoothing(fashion_mnist, tmp_path):
    output = run(
        "equivariant_smoothing.py",
        tmp_path,
        *("--epochs", "1", "--train", "1000", "--examples", "8"),
        *("--n", "200"),
    )
    for part in (
        "Before: smoothed without fine-tuning",
        "After: recognised as smoothed with Gaussian(sigma=0.25)",
        "attacked, 16 draws",
        "D4, turned",
        "l2 up to D4",
    ):
        assert part in output
    assert (tmp_path / "output" / "noisy.keras").exists()


@pytest.mark.parametrize("name,convolutions", [("vgg", 6), ("resnet", 10)])
def test_networks_can_be_randomized(monkeypatch, capsys, name, convolutions):
    monkeypatch.syspath_prepend(EXAMPLES)
    model = getattr(importlib.import_module("networks"), name)((28, 28, 1))
    x = np.random.default_rng(0).random((2, 28, 28, 1)).astype("float32")
    silent = ks.randomize(model, 0.0, 0.0)
    np.testing.assert_array_equal(silent(x), model(x))
    heading = capsys.readouterr().out.splitlines()[0]
    assert heading == f"Always-on noise before {convolutions} convolutions"


@pytest.mark.slow
def test_rse_under_attack(fashion_mnist, tmp_path):
    output = run(
        "rse_under_attack.py",
        tmp_path,
        *("--epochs", "1", "--train", "500"),
        *("--examples", "8", "--c", "0.1", "--draws", "2"),
        *("--n", "200"),
    )
    for part in (
        "Always-on noise before",
        "undefended",
        "adversarial",
        "attacked, 2 draws",
        "certified",
    ):
        assert part in output
    plot = tmp_path / "output" / "vgg_rse.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_deq_fashion_mnist(fashion_mnist, tmp_path):
    output = run(
        "deq_fashion_mnist.py",
        tmp_path,
        *("--cells", "contractive", "--epochs", "2"),
        *("--train", "1000", "--test", "200", "--examples", "4", "--n", "100"),
    )
    for part in (
        "contractive: clean accuracy",
        "converged",
        "certified",
    ):
        assert part in output
    assert (tmp_path / "output" / "deq_contractive_smoothed.keras").exists()
    plot = tmp_path / "output" / "deq_contractive.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_serialized_smoothing(fashion_mnist, tmp_path):
    output = run(
        "serialized_smoothing.py",
        tmp_path,
        *("--epochs", "1", "--train", "200", "--examples", "2", "--n", "200"),
    )
    for part in (
        "every draw solved",
        "truncated",
        "audited votes the network did not confirm",
        "stayed open",
        "frames in a row",
    ):
        assert part in output
    plot = tmp_path / "output" / "serialized_dense.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_other_network_of_serialized_smoothing(monkeypatch):
    # It compiles for a minute. What its cell does is tested elsewhere.
    monkeypatch.syspath_prepend(EXAMPLES)
    networks = importlib.import_module("serialized_smoothing").NETWORKS
    dataset, build, is_proved = networks["mdeq"]
    x, _ = ks.datasets.load(dataset, "test[:2]")
    assert not is_proved
    assert build(x.shape[1:])(x).shape == (2, 10)


@pytest.mark.slow
def test_any_function(tmp_path):
    output = run(
        "any_function.py", tmp_path, *("--examples", "8", "--n", "300")
    )
    for part in ("trained without noise", "trained under noise", "certified"):
        assert part in output
    plot = tmp_path / "output" / "any_function.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_regression(tmp_path):
    output = run(
        "regression.py",
        tmp_path,
        *("--epochs", "1", "--examples", "8", "--n", "400"),
    )
    for part in ("median width", "With probability", "true", "within 75"):
        assert part in output
    plot = tmp_path / "output" / "regression.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_detection(tmp_path):
    output = run("detection.py", tmp_path, "--examples", "2", "--n", "600")
    for part in ("recall 0.5", "With probability"):
        assert part in output
    for name in ("detection.png", "detection_boxes.png"):
        picture = tmp_path / "output" / name
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_segmentation(tmp_path):
    output = run(
        "segmentation.py",
        tmp_path,
        *("--size", "16", "--train", "64", "--epochs", "1"),
        *("--examples", "4", "--n", "100"),
    )
    for part in ("certified mean IoU", "by Holm", "all pixels of an example"):
        assert part in output
    plot = tmp_path / "output" / "segmentation.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_data_dependent(tmp_path):
    output = run(
        "data_dependent.py",
        tmp_path,
        *("--dataset", "digits", "--epochs", "2", "--examples", "16"),
        *("--n", "200", "--steps", "5"),
    )
    for part in (
        "Training with a sigma for each image",
        "The best one is",
        "answered by earlier promises",
        "with the memory: 0 of",
        "data-dependent training, own sigma",
    ):
        assert part in output
    plot = tmp_path / "output" / "data_dependent_digits.png"
    assert plot.read_bytes().startswith(b"\x89PNG")
