"""Adaptive sampling against fixed n = 100_000, on the same draws.

    python benchmarks/adaptive_against_fixed.py --output runs

Prints JSON. For each sigma the network of the quickstart is trained on
Fashion-MNIST under that noise, and 500 test images are certified in both ways
with the same seed, so that adaptive sampling looks at the first draws of the
same sequences. Models and logs stay in the output folder, and a run that was
interrupted goes on where it stopped. Fixed sampling takes half an hour for each
sigma on two cores.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from common import print_json
from quickstart import build_base_model

import keras_smoothing as ks


def trained(path, sigma, epochs):
    """The smoothed model in a file; trains it where it is absent."""
    if not path.exists():
        keras.utils.set_random_seed(0)
        x, y = ks.datasets.load("fashion_mnist", "train")
        model = ks.SmoothedModel(
            build_base_model(x.shape[1:]), ks.noise.Gaussian(sigma)
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        model.fit(x, y, batch_size=128, epochs=epochs, verbose=2)
        model.save(path)
    return keras.saving.load_model(path)


def compare(fixed, adaptive, grid):
    shares = adaptive.num_samples / fixed.num_samples
    lost = fixed.certified_accuracy(grid) - adaptive.certified_accuracy(grid)
    return {
        "share_of_draws": round(float(np.mean(shares)), 4),
        "median_draws": int(np.median(adaptive.num_samples)),
        "grid": grid.tolist(),
        "fixed": fixed.certified_accuracy(grid).round(4).tolist(),
        "adaptive": adaptive.certified_accuracy(grid).round(4).tolist(),
        "most_points_lost": round(100 * float(lost.max()), 2),
        "predictions_that_differ": int(
            np.sum(fixed.prediction != adaptive.prediction)
        ),
        "acr": {
            "fixed": round(fixed.average_certified_radius(), 4),
            "adaptive": round(adaptive.average_certified_radius(), 4),
        },
    }


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--sigmas", type=float, nargs="+", default=[0.25, 0.5, 1.0]
    )
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--step", type=float, default=0.25, help="of the grid")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    x, y = ks.datasets.load("fashion_mnist", f"test[:{arguments.examples}]")
    report = {"n": arguments.n, "examples": arguments.examples, "sigmas": {}}
    for sigma in arguments.sigmas:
        model = trained(
            arguments.output / f"sigma_{sigma}.keras", sigma, arguments.epochs
        )
        # Up to the largest radius that n draws can prove.
        largest = ks.plan(arguments.n, 0.001, model.noise).largest_radius
        grid = np.arange(0, largest, arguments.step)
        rules = {
            "fixed": ks.FixedSampling(arguments.n),
            "adaptive": ks.AdaptiveSampling(grid, max_n=arguments.n),
        }
        results = {
            name: model.certify(
                x,
                y,
                stopping=stopping,
                seed=0,
                log=arguments.output / f"{name}_{sigma}.tsv",
                verbose=2,
            )
            for name, stopping in rules.items()
        }
        report["sigmas"][sigma] = compare(**results, grid=grid)
    return report


if __name__ == "__main__":
    print_json(main)
