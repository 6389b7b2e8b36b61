"""What the benchmarks share."""

import pathlib
import re
import statistics

import keras

SHAPE = (28, 28, 1)
SIGMA = 0.25


def network(classes=10):
    """The network of the throughput figures."""
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(classes),
        ]
    )


def spread(values):
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def ratio(ones, others):
    """Spread of the ratios of neighbours in time."""
    return spread([a / b for a, b in zip(ones, others, strict=True)])


def peak_mib():
    """Peak memory of this process.

    `getrusage` would give that of the parent process, where it was larger.
    """
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024
