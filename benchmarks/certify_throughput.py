"""How close certification comes to the bare forward pass of the model.

    python benchmarks/certify_throughput.py --policy float32
    python benchmarks/certify_throughput.py --policy mixed_bfloat16

Prints JSON. Three ways through the same network, in turn in one process, each
compiled with `tf.function` and warmed up:

- bare: the forward pass alone, on images that lie ready, no noise, no votes;
- ours: the vote counts behind `SmoothedModel.certify`;
- loop: what one would write by hand, one example at a time with noise of its
  own, noise, forward pass and votes in one graph.

Rates are noisy images per second. Ratios are those of neighbours in time, one
for each round; the median, the smallest and the largest are printed.
"""

import argparse
import json
import os
import platform
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


def contenders(base, examples, draws, batch_size):
    """Functions that each push `examples * draws` images through `base`."""
    x = np.random.default_rng(0).random((examples, *SHAPE)).astype("float32")
    images = tf.random.uniform((batch_size, *SHAPE))
    smoothed = ks.SmoothedModel(base, ks.noise.Gaussian(SIGMA))
    batches = draws // batch_size

    @tf.function
    def forward(images):
        return base(images, training=False)

    @tf.function
    def votes(example, seed):
        noise = tf.random.stateless_normal((batch_size, *SHAPE), seed)
        outputs = base(example + SIGMA * noise, training=False)
        return tf.math.bincount(
            tf.argmax(outputs, axis=-1, output_type=tf.int32),
            minlength=10,
            maxlength=10,
        )

    def bare():
        for _ in range(examples * batches):
            forward(images)

    def ours():
        smoothed.certify(
            x, n0=1, n=draws - 1, batch_size=batch_size, seed=0, verbose=0
        )

    def loop():
        for i, example in enumerate(tf.unstack(x)):
            counts = np.zeros(10, np.int64)
            for j in range(batches):
                counts += votes(example, tf.constant([i, j])).numpy()

    return {"bare": bare, "ours": ours, "loop": loop}


def measure(functions, images, rounds):
    """Images per second of each function, in turn, round after round."""
    rates = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            rates[name].append(images / (time.perf_counter() - began))
    return rates


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--policy", default="float32")
    parser.add_argument("--examples", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--images", type=int, default=2**17, help="images in each measurement"
    )
    arguments = parser.parse_args()
    keras.mixed_precision.set_global_policy(arguments.policy)
    base = network()
    report = {
        "policy": arguments.policy,
        "batch_size": arguments.batch_size,
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "examples": {},
    }
    for examples in arguments.examples:
        draws = arguments.images // examples
        draws -= draws % arguments.batch_size
        if not draws:
            parser.error(f"--images is too small for {examples} examples")
        functions = contenders(base, examples, draws, arguments.batch_size)
        rates = measure(functions, examples * draws, arguments.rounds)
        report["examples"][examples] = {
            "images_per_second": {n: spread(r) for n, r in rates.items()},
            "ours_to_bare": ratio(rates["ours"], rates["bare"]),
            "ours_to_loop": ratio(rates["ours"], rates["loop"]),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
