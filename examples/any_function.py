"""Certify a classifier that is no Keras model: a scikit-learn pipeline.

    python examples/any_function.py

Anything that maps a NumPy array to classes can be smoothed: a model of another
library, an ONNX session, a service on the network. It gives no gradients, so it
cannot be trained through `fit` or attacked by gradients here; certificates need
none, and hold against attackers that have them.

Writes the certified curves into `output/`.
"""

import argparse
import pathlib

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import keras_smoothing as ks


def flat(x):
    """scikit-learn takes a row for each example."""
    return x.reshape(len(x), -1)


def trained(x, y):
    """A pipeline as scikit-learn makes them; its scaling comes after the noise,
    as part of the function, so sigma and radii stay in units of the pixels."""
    return make_pipeline(StandardScaler(), PCA(30), SVC()).fit(flat(x), y)


def noisy_copies(x, y, sigma, copies, seed=0):
    """What a smoothed classifier sees is noisy, and so is what it learns from.

    A Keras model would get fresh noise in every step of `fit`; here some copies
    are drawn beforehand.
    """
    rng = np.random.default_rng(seed)
    x, y = np.repeat(x, copies, axis=0), np.repeat(y, copies)
    return x + sigma * rng.normal(size=x.shape).astype("float32"), y


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--copies", type=int, default=4, help="to train on")
    parser.add_argument("--examples", type=int, default=50, help="to certify")
    parser.add_argument("--n", type=int, default=2_000, help="draws at most")
    arguments = parser.parse_args()
    x, y = ks.datasets.load("digits", "train")
    x_test, y_test = ks.datasets.load("digits", f"test[:{arguments.examples}]")
    radii = np.arange(0, 1.01, 0.125)

    noisy = noisy_copies(x, y, arguments.sigma, arguments.copies)
    pipelines = {
        "trained without noise": trained(x, y),
        "trained under noise": trained(*noisy),
    }
    results = {}
    for name, pipeline in pipelines.items():
        accuracy = pipeline.score(flat(x_test), y_test)
        print(f"\n{name}: accuracy without noise {accuracy:.1%}")
        base = ks.from_function(
            lambda x, pipeline=pipeline: pipeline.predict(flat(x)),
            num_classes=10,
            name=name,
            input_shape=x.shape[1:],
        )
        model = ks.SmoothedModel(base, ks.noise.Gaussian(arguments.sigma))
        # Draws are what costs time here; most examples need few of them.
        stopping = ks.AdaptiveSampling(radii, max_n=arguments.n)
        results[name] = model.certify(
            x_test, y_test, stopping=stopping, seed=0, verbose=2
        )
        results[name].summary(radii)

    folder = pathlib.Path("output")
    folder.mkdir(exist_ok=True)
    ax = ks.evaluation.plot_certified_accuracy(results)
    ax.figure.savefig(folder / "any_function.png")
    print(f"\nCurves: {folder / 'any_function.png'}")


if __name__ == "__main__":
    main()
