import os
import pathlib
import subprocess
import sys

import keras

import keras_smoothing as ks

SCRIPT = pathlib.Path(__file__).parents[1] / "examples" / "quickstart.py"


def test_quickstart_runs_and_saves(tmp_path):
    arguments = ["--epochs", "2", "--examples", "8", "--n", "200"]
    output = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
    ).stdout
    for part in ("ACR", "certified", "What next", "keras-smoothing certify"):
        assert part in output
    model = keras.saving.load_model(tmp_path / "output" / "digits.keras")
    assert isinstance(model, ks.SmoothedModel)
    plot = tmp_path / "output" / "digits.png"
    assert plot.read_bytes().startswith(b"\x89PNG")
