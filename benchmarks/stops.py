"""Through which files of the package a call passes.

    python benchmarks/stops.py

Prints JSON: for each call, repeated so that nothing is compiled any more, the
number of files, functions, and calls from one file to another, and the files in
the order in which they are entered. Rebuilding a graph is not counted: what a
reader follows is what runs every time.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from common import print_json

import keras_smoothing as ks

PACKAGE = str(pathlib.Path(ks.__file__).parent) + os.sep
SETTINGS = dict(n=200, alpha=0.01, seed=0, verbose=0)


class Stops:
    """Notes which functions of the package are entered, and from where."""

    def __init__(self):
        self.files, self.functions, self.crossings = {}, set(), 0

    def __call__(self, frame, event, argument):
        if event != "call" or not self._is_ours(frame):
            return
        code = frame.f_code
        name = code.co_filename.removeprefix(PACKAGE)
        self.files.setdefault(name)
        self.functions.add((name, code.co_qualname))
        caller = frame.f_back
        while caller is not None and not self._is_ours(caller):
            caller = caller.f_back
        if caller is not None:
            self.crossings += caller.f_code.co_filename != code.co_filename

    @staticmethod
    def _is_ours(frame):
        return frame.f_code.co_filename.startswith(PACKAGE)

    def figures(self):
        return {
            "files": len(self.files),
            "functions": len(self.functions),
            "calls_between_files": self.crossings,
            "in_order": list(self.files),
        }


def stops(call):
    call()
    call()
    noted = Stops()
    sys.setprofile(noted)
    try:
        call()
    finally:
        sys.setprofile(None)
    return noted.figures()


def network(outputs):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(outputs),
        ]
    )


def training_step(model, x, y):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    return lambda: model.train_on_batch(x, y)


def main():
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    y = np.array([0, 1])
    noise = ks.noise.Gaussian(0.25)
    model = ks.SmoothedModel(network(3), noise)
    regression = ks.SmoothedRegression(network(2), noise)
    segmentation = ks.SmoothedMultiLabel(network(2), noise)
    cell = ks.equilibrium.cells.ContractiveDense(4)
    layer = ks.layers.DeepEquilibrium(cell)
    calls = {
        "certify": lambda: model.certify(x, **SETTINGS),
        "classify": lambda: model.classify(x, n=200, alpha=0.01, seed=0),
        "multi-label certify": lambda: segmentation.certify(x, **SETTINGS),
        "regression certify": lambda: regression.certify(
            x, radii=[0.0], **SETTINGS
        ),
        "training step": training_step(model, x, y),
        "equilibrium layer": lambda: layer(x),
    }
    return {name: stops(call) for name, call in calls.items()}


if __name__ == "__main__":
    print_json(main)
