"""Certification by us and by adversarial-robustness-toolbox, side by side.

    pip install ".[datasets]" adversarial-robustness-toolbox==1.20.1 statsmodels
    python benchmarks/against_art.py --n 10000
    python benchmarks/against_art.py --n 100000 --ways art adaptive

Prints JSON. The same network, weights, images, n0, n, alpha and sigma; every
measurement in a process of its own, the ways in turn, round after round. A
process certifies one image first, at the same n, since both sides compile their
graphs then; peak memory is that of the whole process, TensorFlow included.

- art: `TensorFlowV2RandomizedSmoothing(...).certify`. Its batch_size is
  ignored: its real batch is n.
- fixed: `SmoothedModel.certify(n=n)`, in float32 and in mixed_bfloat16.
- adaptive: `SmoothedModel.certify(stopping=AdaptiveSampling(radii, max_n=n))`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import SHAPE
from common import SIGMA
from common import network
from common import peak_mib
from common import ratio
from common import spread

import keras_smoothing as ks

N0, ALPHA = 100, 0.001
RADII = [0.0, 0.25, 0.5, 0.75]


def train(weights, epochs):
    """Saves the weights of the network, trained under noise."""
    keras.utils.set_random_seed(0)
    x, y = ks.datasets.load("fashion_mnist", "train")
    base = network()
    model = ks.SmoothedModel(base, ks.noise.Gaussian(SIGMA))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    base.save_weights(weights)


def art(base, n):
    """A function from images to classes, radii and draws: theirs."""
    from art.estimators.certification.randomized_smoothing import (
        TensorFlowV2RandomizedSmoothing,
    )

    classifier = TensorFlowV2RandomizedSmoothing(
        base,
        nb_classes=10,
        input_shape=SHAPE,
        sample_size=N0,
        scale=SIGMA,
        alpha=ALPHA,
    )

    def certify(x):
        prediction, radius = classifier.certify(x, n=n, batch_size=1024)
        return prediction, radius, len(x) * (N0 + n)

    return certify


def ours(base, stopping):
    """A function from images to classes, radii and draws: ours."""
    model = ks.SmoothedModel(base, ks.noise.Gaussian(SIGMA))

    def certify(x):
        result = model.certify(
            x, n0=N0, stopping=stopping, alpha=ALPHA, seed=0, verbose=0
        )
        draws = int(np.sum(N0 + result.num_samples))
        return result.prediction, result.radius, draws

    return certify


def measure(way, policy, weights, n, examples):
    """What one process does: certifies, and prints how it went."""
    keras.mixed_precision.set_global_policy(policy)
    base = network()
    base.load_weights(weights)
    certify = {
        "art": lambda: art(base, n),
        "fixed": lambda: ours(base, ks.FixedSampling(n)),
        "adaptive": lambda: ours(base, ks.AdaptiveSampling(RADII, max_n=n)),
    }[way]()
    x, y = ks.datasets.load("fashion_mnist", f"test[:{examples}]")
    certify(x[:1])
    began = time.perf_counter()
    prediction, radius, draws = certify(x)
    seconds = time.perf_counter() - began
    reached = (radius >= np.array(RADII)[:, np.newaxis]) & (prediction == y)
    report = {
        "seconds": seconds,
        "draws": draws,
        "draws_per_second": draws / seconds,
        "peak_mib": peak_mib(),
        "prediction": np.asarray(prediction).tolist(),
        "radius": np.asarray(radius).tolist(),
        "certified_accuracy": reached.mean(axis=1).tolist(),
    }
    print(json.dumps(report))


def compare(ours, theirs):
    """How far the certificates of two processes agree."""
    one, other = (np.array(run["prediction"]) for run in (ours, theirs))
    both = (one >= 0) & (other >= 0)
    apart = np.array(ours["radius"]) - np.array(theirs["radius"])
    return {
        "certified_by_both": int(both.sum()),
        "certified_by_one": int(np.sum((one >= 0) ^ (other >= 0))),
        "classes_that_differ": int(np.sum(one[both] != other[both])),
        "median_radius_difference": float(np.median(apart[both])),
        "largest_radius_difference": float(np.abs(apart[both]).max()),
    }


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--ways", nargs="+", default=["art", "fixed", "adaptive"]
    )
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure, arguments.n, arguments.examples)
        return
    policies = ("float32", "mixed_bfloat16")
    columns = [
        (way, policy)
        for way in arguments.ways
        for policy in (policies if way != "art" else policies[:1])
    ]
    runs = {column: [] for column in columns}
    with tempfile.TemporaryDirectory() as folder:
        weights = str(pathlib.Path(folder) / "network.weights.h5")
        train(weights, arguments.epochs)
        for _ in range(arguments.rounds):
            for way, policy in columns:
                command = [sys.executable, __file__]
                command += ["--n", str(arguments.n)]
                command += ["--examples", str(arguments.examples)]
                command += ["--measure", way, policy, weights]
                output = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE
                ).stdout
                run = json.loads(output.splitlines()[-1])
                runs[way, policy].append(run)
    report = {
        "n": arguments.n,
        "examples": arguments.examples,
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "ways": {},
    }
    theirs = runs.get(("art", "float32"))
    for (way, policy), ours_ in runs.items():
        columns = {
            name: [run[name] for run in ours_]
            for name in ("seconds", "draws_per_second", "peak_mib", "draws")
        }
        draws = columns.pop("draws")[0]
        entry = {name: spread(values) for name, values in columns.items()}
        entry["share_of_draws"] = (
            draws / arguments.examples / (N0 + arguments.n)
        )
        entry["certified_accuracy"] = ours_[0]["certified_accuracy"]
        if theirs and way != "art":
            rates = [run["draws_per_second"] for run in theirs]
            seconds = [run["seconds"] for run in theirs]
            entry["rate_to_art"] = ratio(columns["draws_per_second"], rates)
            entry["art_time_to_ours"] = ratio(seconds, columns["seconds"])
            entry["against_art"] = compare(ours_[0], theirs[0])
        report["ways"][f"{way} {policy}"] = entry
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
