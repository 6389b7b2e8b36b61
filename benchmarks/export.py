"""What certifying through an exported SavedModel costs.

    python benchmarks/export.py

Prints JSON: seconds to export and to load, and those of one call of `certify`
of the package and of the reader that lies beside the SavedModel, by turns
first and second in one process, warmed up, with the same seed, hence for the
same certificates. Ratios are those of neighbours in time, one for each round.
"""

import argparse
import functools
import json
import os
import platform
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from common import SHAPE
from common import SIGMA
from common import network
from common import ratio
from common import spread

import keras_smoothing as ks


def seconds(function, *arguments, **settings):
    began = time.perf_counter()
    value = function(*arguments, **settings)
    return time.perf_counter() - began, value


def measure(model, classifier, examples, n, rounds):
    x = np.random.default_rng(0).random((examples, *SHAPE)).astype("float32")
    package = functools.partial(
        model.certify, check_independence=False, verbose=0
    )
    contenders = {"package": package, "saved_model": classifier.certify}
    runs = {name: [] for name in contenders}
    for i in range(rounds + 1):
        counts = []
        for name in sorted(contenders, reverse=i % 2):
            took, found = seconds(contenders[name], x, n=n, seed=i)
            counts.append(found.counts)
            runs[name].append(took)
        if not np.array_equal(*counts):
            raise ValueError("Expected equal votes.")
    runs = {name: run[1:] for name, run in runs.items()}  # Warmed up.
    return {
        **{f"{name}_seconds": spread(run) for name, run in runs.items()},
        "saved_model_to_package": ratio(runs["saved_model"], runs["package"]),
    }


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--examples", type=int, nargs="+", default=[16, 1])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    model = ks.SmoothedModel(network(), ks.noise.Gaussian(SIGMA))
    with tempfile.TemporaryDirectory() as folder:
        exporting, _ = seconds(model.export, folder, verbose=False)
        sys.path.insert(0, f"{folder}/assets.extra")
        from certificates import SmoothedClassifier

        loading, classifier = seconds(SmoothedClassifier, folder)
        report = {
            "n": arguments.n,
            "rounds": arguments.rounds,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "export_seconds": round(exporting, 2),
            "load_seconds": round(loading, 2),
            "examples": {
                examples: measure(
                    model,
                    classifier,
                    examples,
                    arguments.n,
                    arguments.rounds,
                )
                for examples in arguments.examples
            },
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
