"""Train a small classifier under noise and certify held-out images.

    python examples/quickstart.py
    python examples/quickstart.py --dataset fashion_mnist

Writes the certified curve and the trained model into `output/`.
"""

import argparse
import os
import pathlib
import sys

import keras

import keras_smoothing as ks


def build_base_model(input_shape):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(
                32, 3, strides=2, padding="same", activation="relu"
            ),
            keras.layers.Conv2D(
                64, 3, strides=2, padding="same", activation="relu"
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    epochs = arguments.epochs
    if epochs is None:
        epochs = 60 if arguments.dataset == "digits" else 15
    keras.utils.set_random_seed(0)

    x_train, y_train = ks.datasets.load(arguments.dataset, "train")
    x_test, y_test = ks.datasets.load(
        arguments.dataset, f"test[:{arguments.examples}]"
    )

    print(f"\nTraining under Gaussian noise, sigma {arguments.sigma}")
    model = ks.SmoothedModel(
        build_base_model(x_train.shape[1:]),
        noise=ks.noise.Gaussian(sigma=arguments.sigma),
    )
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x_train, y_train, batch_size=128, epochs=epochs, verbose=2)

    print(f"\nCertifying {len(x_test)} images the model has not seen")
    result = model.certify(x_test, y_test, n=arguments.n, alpha=0.001, seed=0)
    print()
    result.summary(radii=[0.0, 0.1, 0.25, 0.5, 0.75])

    best = int(result.radius.argmax())
    print(
        f"\nImage {best}: class {result.prediction[best]}, and no change of "
        f"{result.noise.norm} norm below {result.radius[best]:.3f} alters that"
        f"\n(the statement fails with probability at most {result.alpha})."
    )

    arguments.output.mkdir(exist_ok=True)
    stem = arguments.output / arguments.dataset
    model.save(stem.with_suffix(".keras"))
    result.plot().figure.savefig(stem.with_suffix(".png"), dpi=150)
    command = os.path.relpath(pathlib.Path(sys.executable).parent)
    command = os.path.join(command, "keras-smoothing")
    log = arguments.output / "run.tsv"
    print(
        f"\nSaved {stem}.keras and the curve {stem}.png. What next:\n"
        f"  {command} plan --model {stem}.keras --examples 1000\n"
        f"  {command} certify {stem}.keras --dataset "
        f'{arguments.dataset} --split "test[:50]" --log {log}\n'
        f"  {command} report {log}\n"
        "Your own model: SmoothedModel(your_keras_model, noise), as above."
    )


if __name__ == "__main__":
    main()
