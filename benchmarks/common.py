"""What the benchmarks share."""

import contextlib
import json
import pathlib
import re
import statistics
import sys

import keras

SHAPE = (28, 28, 1)
SIGMA = 0.25


def network(classes=10, width=1.0):
    """The network of the throughput figures, or a narrower one."""
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(
                round(32 * width), 3, strides=2, activation="relu"
            ),
            keras.layers.Conv2D(
                round(64 * width), 3, strides=2, activation="relu"
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(round(128 * width), activation="relu"),
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


def print_json(main, **settings):
    """Prints what a function returns, and what it prints itself to stderr."""
    with contextlib.redirect_stdout(sys.stderr):  # Of trainings and runs.
        report = main()
    print(json.dumps(report, indent=2, **settings))
