"""Certify how far a regression can be moved: progression of diabetes.

    python examples/regression.py

Ten measurements of a patient, in units of their standard deviations, and a
network that says how far the disease will have progressed in a year (25 to
346). It is trained under noise; then each prediction, a median under the noise,
gets an interval that no change of the measurements below a radius leaves.
Writes the widths of the intervals into `output/`.
"""

import argparse
import pathlib

import keras
import numpy as np
from sklearn.datasets import load_diabetes

import keras_smoothing as ks


def load(num_test):
    """Measurements and progressions: those to train with, those to test."""
    x, y = load_diabetes(return_X_y=True)
    x = (x / x.std(axis=0)).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[100:], order[:num_test]
    return (x[train], y[train]), (x[test], y[test])


def build_base_model(y):
    return keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(1),
            # To the units of y.
            keras.layers.Rescaling(y.std(), offset=y.mean()),
        ]
    )


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    (x_train, y_train), (x_test, y_test) = load(min(100, arguments.examples))
    print(f"\nTraining under Gaussian noise, sigma {arguments.sigma}")
    model = ks.SmoothedRegression(
        build_base_model(y_train), ks.noise.Gaussian(arguments.sigma)
    )
    model.compile(keras.optimizers.Adam(1e-3), "mae")
    model.fit(x_train, y_train, epochs=arguments.epochs, verbose=0)

    radii = [0.0, 0.1, 0.25, 0.5]
    print(f"\nWhat n={arguments.n} draws can prove:")
    print(model.plan(arguments.n, 0.001, radii, num_examples=len(x_test)))

    print(f"\nCertifying {len(x_test)} patients the model has not seen")
    result = model.certify(
        x_test, y_test, radii=radii, n=arguments.n, alpha=0.001, seed=0
    )
    print()
    result.summary()

    print("\nSome of them, within a radius of 0.25:")
    lower, upper = result.at(0.25)
    for i in range(min(5, len(result))):
        print(
            f"  true {y_test[i]:5.0f}   predicted "
            f"{result.prediction[i, 0]:5.1f}   in "
            f"[{lower[i, 0]:.1f}, {upper[i, 0]:.1f}]"
        )
    shares = result.certified_accuracy(radii, tolerance=75.0)
    for radius, share in zip(radii, shares, strict=True):
        print(f"within 75 of the truth at radius {radius}: {share:.1%}")

    arguments.output.mkdir(exist_ok=True)
    plot = arguments.output / "regression.png"
    result.plot().figure.savefig(plot, dpi=150)
    print(f"\nSaved {plot}")


if __name__ == "__main__":
    main()
