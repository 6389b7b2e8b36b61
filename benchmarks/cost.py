"""What a certification costs as n, examples and classes grow.

    python benchmarks/cost.py

Prints JSON: draws, seconds, draws per second and peak memory, each measurement
in a process of its own, after a warm-up. Peak memory is that of the whole
process, TensorFlow included.
"""

import argparse
import json
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from common import SHAPE
from common import SIGMA
from common import network
from common import peak_mib
from common import spread

import keras_smoothing as ks

# examples, n, classes
CASES = {
    "n": [(4, 10_000, 10), (4, 100_000, 10), (1, 1_000_000, 10)],
    "examples": [(1, 2_000, 10), (16, 2_000, 10), (64, 2_000, 10)]
    + [(256, 2_000, 10)],
    "classes": [(16, 10_000, 10), (16, 10_000, 100), (16, 10_000, 1_000)],
}


def measure(examples, n, classes):
    model = ks.SmoothedModel(network(classes), ks.noise.Gaussian(SIGMA))
    x = np.random.default_rng(0).random((examples, *SHAPE)).astype("float32")
    model.certify(x, n=5_000, verbose=0)
    began = time.perf_counter()
    model.certify(x, n=n, seed=0, verbose=0)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    cases = [case for group in CASES.values() for case in group]
    runs = {case: [] for case in cases}
    for _ in range(arguments.rounds):
        for case in runs:
            command = [sys.executable, __file__, "--measure", *map(str, case)]
            output = subprocess.run(
                command, check=True, stdout=subprocess.PIPE
            ).stdout
            runs[case].append(json.loads(output.splitlines()[-1]))
    report = {"rounds": arguments.rounds, "cores": os.cpu_count()}
    for name, group in CASES.items():
        report[name] = [
            {
                "examples": examples,
                "n": n,
                "classes": classes,
                "draws": (draws := examples * (100 + n)),
                "draws_per_second": spread(
                    [draws / r["seconds"] for r in runs[examples, n, classes]]
                ),
                **{
                    key: spread([r[key] for r in runs[examples, n, classes]])
                    for key in ("seconds", "peak_mib")
                },
            }
            for examples, n, classes in group
        ]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
