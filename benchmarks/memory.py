"""What a memory of certified balls costs as it grows.

    python benchmarks/memory.py

Prints JSON: milliseconds of a lookup and of an insertion, in RAM, among 10^3 to
10^6 balls of dimension 784, against brute force in float64, which computes all
distances; and of what a lookup may save, one certificate of n = 10,000 of a
small network (Dense128-Dense10). In each round all are measured in turn, over
other queries.

- images: Fashion-MNIST, its training images; where more than 60,000 are needed,
  again, moved by up to two pixels and with a little noise. Queries are test
  images.
- cube: uniform in the unit cube, where no coordinates tell more than others.

Radii are uniform up to `--radius`. `--file` measures insertions into an SQLite
file too, where the disk's sync takes most of the time.
"""

import argparse
import json
import os
import platform
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import SHAPE
from common import SIGMA
from common import peak_mib
from common import ratio
from common import spread

import keras_smoothing as ks
from keras_smoothing.memory import Promise

DIMENSIONS = 784
CLASSES = 10
# Balls that are added at once, and of which brute force computes distances.
BLOCK = 10_000


def images(rng):
    """Functions that give points, and queries."""
    train, _ = ks.datasets.load("fashion_mnist", "train")
    test, _ = ks.datasets.load("fashion_mnist", "test")

    def points(start, count):
        chosen = train[np.arange(start, start + count) % len(train)]
        if start + count > len(train):
            chosen = np.roll(chosen, rng.integers(-2, 3, 2), axis=(1, 2))
            noise = rng.standard_normal(chosen.shape, "float32")
            chosen = chosen + 0.02 * noise
        return chosen.reshape(count, DIMENSIONS)

    def queries(count):
        chosen = rng.choice(len(test), count, replace=False)
        return test[chosen].reshape(count, DIMENSIONS)

    return points, queries


def cube(rng):
    def points(start, count):
        return rng.random((count, DIMENSIONS), dtype="float32")

    return points, lambda count: points(0, count)


def brute_force(points, radii, x):
    """The balls around `x`, by all distances in float64."""
    inside = []
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        steps = points[block].astype("float64") - x
        distances = np.sqrt(np.einsum("ij,ij->i", steps, steps))
        inside.extend(start + np.flatnonzero(distances <= radii[block]))
    return inside


def milliseconds(function, queries):
    """The mean over queries of what a call for one takes."""
    began = time.perf_counter()
    for query in queries:
        function(query[np.newaxis])
    return 1e3 * (time.perf_counter() - began) / len(queries)


def filled(memory, points, size, rng, radius):
    """Adds balls as they are, since to decide about 10^6 takes hours."""
    while len(memory) < size:
        count = min(BLOCK, size - len(memory))
        memory._index.extend(
            points(len(memory), count),
            [
                Promise(prediction, r, 1.0, 0.001)
                for prediction, r in zip(
                    rng.integers(CLASSES, size=count).tolist(),
                    rng.uniform(0, radius, count).tolist(),
                    strict=True,
                )
            ],
        )


def measure(kind, sizes, arguments, certificate):
    rng = np.random.default_rng(0)
    points, queries = {"images": images, "cube": cube}[kind](rng)
    memory = ks.CertificationMemory()
    memory.bind("a fingerprint", "l2", (DIMENSIONS,))

    def insert(x):
        prediction = rng.integers(CLASSES, size=1)
        radius = rng.uniform(0, arguments.radius, 1)
        memory.promise(x, prediction, radius, 1.0, 0.001)

    report = []
    for size in sizes:
        filled(memory, points, size, rng, arguments.radius)
        centers = memory._index._points[:size]
        radii = memory._index._rows["radius"][:size].copy()
        runs = {"lookup": [], "insertion": [], "brute_force": []}
        seconds = []
        for _ in range(arguments.rounds):
            runs["lookup"].append(milliseconds(memory.look_up, queries(50)))
            runs["insertion"].append(milliseconds(insert, queries(10)))
            runs["brute_force"].append(
                milliseconds(
                    lambda x, c=centers, r=radii: brute_force(c, r, x[0]),
                    queries(max(1, min(10, 10**5 // size))),
                )
            )
            seconds.append(certificate())
            memory._index.truncate(size)
        report.append(
            {
                "balls": size,
                **{f"{name}_ms": spread(run) for name, run in runs.items()},
                "brute_force_to_lookup": ratio(
                    runs["brute_force"], runs["lookup"]
                ),
                "certificate_ms": spread([1e3 * t for t in seconds]),
                "lookup_to_certificate_percent": spread(
                    [
                        0.1 * lookup / t
                        for lookup, t in zip(
                            runs["lookup"], seconds, strict=True
                        )
                    ]
                ),
                "peak_mib": round(peak_mib()),
            }
        )
    return report


def measure_file(rounds, radius):
    """Insertions into an SQLite file, one and sixteen at a time."""
    rng = np.random.default_rng(0)
    runs = {1: [], 16: []}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        with ks.CertificationMemory(f"{folder}/promises.sqlite") as memory:
            memory.bind("a fingerprint", "l2", (DIMENSIONS,))
            for _ in range(rounds):
                for count, run in runs.items():
                    began = time.perf_counter()
                    for _ in range(20):
                        memory.promise(
                            rng.random((count, DIMENSIONS), dtype="float32"),
                            rng.integers(CLASSES, size=count),
                            rng.uniform(0, radius, count),
                            1.0,
                            0.001,
                        )
                    passed = time.perf_counter() - began
                    run.append(1e3 * passed / 20 / count)
    return {f"{count}_at_a_time_ms": spread(run) for count, run in runs.items()}


def certifier():
    base = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(CLASSES),
        ]
    )
    model = ks.SmoothedModel(base, ks.noise.Gaussian(SIGMA))
    x = np.random.default_rng(0).random((1, *SHAPE)).astype("float32")

    def certificate():
        began = time.perf_counter()
        model.certify(x, n=10_000, seed=0, verbose=0)
        return time.perf_counter() - began

    certificate()
    return certificate


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--radius", type=float, default=1.0)
    parser.add_argument(
        "--kinds", nargs="+", default=["images", "cube"], help="of points"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[10**3, 10**4, 10**5, 10**6],
    )
    parser.add_argument("--file", action="store_true")
    arguments = parser.parse_args()
    certificate = certifier()
    report = {
        "rounds": arguments.rounds,
        "radius": arguments.radius,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "dimensions": DIMENSIONS,
    }
    for kind in arguments.kinds:
        report[kind] = measure(
            kind, sorted(arguments.sizes), arguments, certificate
        )
    if arguments.file:
        report["file"] = measure_file(arguments.rounds, arguments.radius)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
