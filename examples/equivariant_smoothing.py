"""Noise for a pre-trained model, and certificates for whole orbits.

    python examples/equivariant_smoothing.py

Takes a pre-trained classifier (`output/classifier.keras`, trained first where
it is absent), puts always-on noise in front of it, fine-tunes it, and prints
clean accuracy, accuracy under l2-PGD and certified accuracy before and after.

Then it turns and flips the test images at random. The plain smoothed model is
lost there; one with `group=ks.groups.D4()`, fine-tuned for as long, is not, and
each of its certificates holds around all eight turns and flips of an image.
"""

import argparse
import pathlib

import keras
import numpy as np
from networks import vgg

import keras_smoothing as ks

RADII = [0.0, 0.1, 0.25, 0.5, 0.75]


def compiled(model, learning_rate):
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def pretrained(path, x, y, epochs):
    """The classifier in a file, as any other training left it."""
    if not path.exists():
        print(f"\nTraining {path}, without noise")
        model = compiled(vgg(x.shape[1:]), 1e-3)
        model.fit(x, y, batch_size=128, epochs=epochs, verbose=2)
        model.save(path)
    return keras.saving.load_model(path)


def fine_tuned(model, x, y, epochs):
    compiled(model, 1e-3).fit(x, y, batch_size=128, epochs=epochs, verbose=2)
    return model


def under_attack(model, x, y, certified):
    result = ks.evaluation.robust_accuracy(
        model,
        x,
        y,
        ks.attacks.l2_pgd,
        RADII,
        num_draws=[16],
        from_logits=True,
        num_steps=20,
        verbose=0,
    )
    print(result.table(certified))


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    x_train, y_train = ks.datasets.load(
        "fashion_mnist", f"train[:{arguments.train}]"
    )
    x, y = ks.datasets.load("fashion_mnist", f"test[:{arguments.examples}]")
    noise = ks.noise.Gaussian(sigma=arguments.sigma)
    path = arguments.output / "classifier.keras"
    stopping = ks.AdaptiveSampling(RADII, max_n=arguments.n)

    def certify(model, x):
        return model.certify(x, y, stopping=stopping, seed=0, verbose=0)

    classifier = pretrained(path, x_train, y_train, arguments.epochs)
    accuracy = np.mean(classifier.predict(x, verbose=0).argmax(axis=1) == y)
    print(f"\nThe classifier as it is: {100 * accuracy:.1f}% clean accuracy")
    print("\nBefore: smoothed without fine-tuning (strength: l2 radius)")
    before = ks.SmoothedModel(classifier, noise)
    under_attack(before, x, y, certify(before, x))

    print("\nFine-tuning with an always-on noise layer in front")
    noisy = ks.add_input_noise(classifier, noise)
    fine_tuned(noisy, x_train, y_train, arguments.epochs)
    noisy.save(arguments.output / "noisy.keras")
    plain = ks.SmoothedModel(noisy)
    print(f"\nAfter: recognised as smoothed with {plain.noise}")
    under_attack(plain, x, y, certify(plain, x))

    print("\nFine-tuning the same classifier under random turns and flips")
    group = ks.groups.D4()
    equivariant = ks.SmoothedModel(
        keras.saving.load_model(path), noise, group=group
    )
    fine_tuned(equivariant, x_train, y_train, arguments.epochs)

    seed = keras.random.SeedGenerator(1)
    turned = np.array(group.act(x, group.sample(len(x), x.shape[1:], seed)))
    results = {
        "plain, upright": certify(plain, x),
        "plain, turned": certify(plain, turned),
        "D4, upright": certify(equivariant, x),
        "D4, turned": certify(equivariant, turned),
    }
    print(
        "\nCertified accuracy; turned: each image flipped and turned at random"
    )
    print(ks.evaluation.table(results, RADII))
    distance = results["D4, turned"].distance
    print(f"\nDistance of the certificates of the last two: {distance}")
    shares = [equivariant.predict(x_, verbose=0) for x_ in (x, turned)]
    difference = np.abs(shares[0] - shares[1]).max()
    print(
        "Largest difference of vote shares between an image and its turn: "
        f"{difference:.2f}, of {equivariant.num_draws} draws each"
    )


if __name__ == "__main__":
    main()
