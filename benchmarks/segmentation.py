"""What certifying all pixels costs, against one class of the same network.

    python benchmarks/segmentation.py

Prints JSON. One U-Net, three answers: all pixels, the pixel in the middle by
itself, and one class by global pooling of its last features. The three are
certified in turn, in each round, on the same images with the same n and batch
size, and seconds are compared with those of their neighbours in time. Peak
memory is that of a process of its own for each, TensorFlow included.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from common import SIGMA
from common import peak_mib
from common import ratio
from common import spread
from networks import unet

import keras_smoothing as ks

CLASSES = 4
ANSWERS = ("pixels", "one pixel", "class")


def smoothed(answer, size):
    """The U-Net, smoothed, with one of the answers."""
    keras.utils.set_random_seed(0)
    base = unet((size, size, 1), CLASSES)
    noise = ks.noise.Gaussian(SIGMA)
    if answer == "pixels":
        return ks.SmoothedSegmentation(base, noise)
    outputs = base.outputs[0][:, size // 2, size // 2]
    if answer == "class":
        features = base.layers[-1].input
        pooled = keras.layers.GlobalAveragePooling2D()(features)
        outputs = keras.layers.Dense(CLASSES)(pooled)
    return ks.SmoothedModel(keras.Model(base.inputs, outputs), noise)


def certify(model, x, n, batch_size):
    """Seconds of a whole call."""
    began = time.perf_counter()
    model.certify(
        x,
        n=n,
        seed=0,
        batch_size=batch_size,
        check_independence=False,
        verbose=0,
    )
    return time.perf_counter() - began


def images(arguments):
    shape = (arguments.examples, arguments.size, arguments.size, 1)
    return np.random.default_rng(0).random(shape).astype("float32")


def memory(answer, arguments):
    """Peak memory of a process that certifies, in MiB."""
    command = [sys.executable, __file__, "--answer", answer]
    for name in ("size", "examples", "n", "batch_size"):
        option = "--" + name.replace("_", "-")
        command += [option, str(getattr(arguments, name))]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--answer", choices=ANSWERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    x = images(arguments)
    settings = (arguments.n, arguments.batch_size)
    if arguments.answer:
        certify(smoothed(arguments.answer, arguments.size), x, *settings)
        print(json.dumps(peak_mib()))
        return
    models = {answer: smoothed(answer, arguments.size) for answer in ANSWERS}
    for model in models.values():
        certify(model, x, *settings)
    seconds = {answer: [] for answer in ANSWERS}
    load = []
    for _ in range(arguments.rounds):
        load.append(round(os.getloadavg()[0], 2))
        for answer, model in models.items():
            seconds[answer].append(certify(model, x, *settings))
    draws = arguments.examples * (100 + arguments.n)
    report = {
        **{
            name: getattr(arguments, name)
            for name in ("rounds", "size", "examples", "n", "batch_size")
        },
        "cores": os.cpu_count(),
        "load_before_rounds": load,
        "seconds": {a: spread(s) for a, s in seconds.items()},
        "draws_per_second": {
            a: spread([draws / s for s in each]) for a, each in seconds.items()
        },
        "pixels_over_one_pixel": ratio(seconds["pixels"], seconds["one pixel"]),
        "pixels_over_class": ratio(seconds["pixels"], seconds["class"]),
        "peak_mib": {a: round(memory(a, arguments)) for a in ANSWERS},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
