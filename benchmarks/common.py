"""What the benchmarks share."""

import contextlib
import json
import pathlib
import re
import statistics
import sys

import keras
import numpy as np

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


def contradictions(memory):
    """Pairs of balls of different classes that meet."""
    kept = list(memory)
    centers = np.array([x for x, _ in kept], np.float64)
    radii = np.array([promise.radius for _, promise in kept])
    classes = np.array([promise.prediction for _, promise in kept])
    found = 0
    for i in range(len(kept)):
        gaps = np.linalg.norm(centers - centers[i], axis=1) - radii - radii[i]
        found += int(np.sum((classes != classes[i]) & (gaps < -1e-12)))
    return found // 2


def print_json(main, **settings):
    """Prints what a function returns, and what it prints itself to stderr."""
    with contextlib.redirect_stdout(sys.stderr):  # Of trainings and runs.
        report = main()
    print(json.dumps(report, indent=2, **settings))
