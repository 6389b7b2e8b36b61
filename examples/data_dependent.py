"""A sigma for each image, and the memory that makes it a certificate.

    python examples/data_dependent.py
    python examples/data_dependent.py --dataset digits

One sigma for all images is a compromise. A shoe that no noise can hide could be
certified at a radius of 2, if only its noise were large enough; a shirt that is
nearly a coat is lost under the same noise. So let each image have its own: the
sigma at which its certified radius looks largest, found by gradient ascent.

Why that alone proves nothing. A certificate says: under this noise, every point
of the ball gets this class. It is about a classifier whose noise is the same
everywhere. One that chooses its noise by the input chooses another one at
another point of the ball, and there it may say something else. An attacker
moves the image until it does.

What makes it a certificate: the classifier remembers. Whenever it has certified
a ball, it keeps the promise: whoever asks inside is given the class of the
ball. And it promises no ball that runs into one of another class. So each
answer depends on those before, and each certificate is true, of this classifier
with this memory, as long as nobody is answered without it.

This trains a network under noise, once with one sigma and once with a sigma for
each training image, certifies the test images with the best common sigma and
with their own, attacks the classifier inside its own balls, with the memory and
without, and draws sigma and the gain into `output/`.
"""

import argparse
import pathlib
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_smoothing as ks

SIGMAS = [0.12, 0.25, 0.5, 1.0]
RADII = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]


def network(input_shape):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def train(x, y, epochs, objective=None):
    model = ks.SmoothedModel(
        network(x.shape[1:]), ks.noise.Gaussian(sigma=0.25), seed=0
    )
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        objective=objective,
    )
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=2)
    return model


def best_common_sigma(model, x, y, n):
    """Certificates with one sigma for all: the one with the largest ACR."""
    results = {}
    for sigma in SIGMAS:
        fixed = ks.SmoothedModel(model.base_model, ks.noise.Gaussian(sigma))
        results[sigma] = fixed.certify(x, y, n=n, seed=0, verbose=2)
    best = max(results, key=lambda s: results[s].average_certified_radius())
    return best, results[best]


def attack(model, search, memory, x, result):
    """How many images get another class inside their own certified balls.

    The attack follows the gradient of the model under its own noise to the
    border of each ball. The noise that an image is given moves along with it.
    benchmarks/data_dependent.py has an attack that reckons with that.
    """
    certified = result.radius > 0
    promised = result.prediction[certified]
    moved = ks.attacks.l2_pgd(
        model,
        x[certified],
        promised,
        # Sums in float32 are rounded: not quite up to the border.
        (1 - 1e-5) * result.radius[certified],
        num_draws=16,
        from_logits=True,
        verbose=0,
    )
    for name, kept in (("without the", None), ("with the", memory)):
        answer = model.classify(moved, sigma=search, memory=kept)
        changed = np.sum((answer != promised) & (answer != ks.ABSTAIN))
        print(f"{name} memory: {changed} of {len(moved)} change class")


def draw(x, own, curves, path):
    """Sigma over the test set, images by sigma, and certified accuracy."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 8))
    top.hist(own.sigma, bins=40, color="tab:blue")
    top.set(xlabel="sigma of an image", ylabel="images")
    order = np.argsort(own.sigma)
    shown = order[np.linspace(0, len(x) - 1, 8).astype(int)]
    for k, i in enumerate(shown):
        inset = top.inset_axes([k / 8, 0.56, 0.12, 0.36])
        inset.imshow(x[i, :, :, 0], cmap="gray_r")
        inset.set_title(f"{own.sigma[i]:.2f}", fontsize=8)
        inset.axis("off")
    top.set_ylim(top=2 * top.get_ylim()[1])
    ks.evaluation.plot_certified_accuracy(curves, bottom)
    bottom.set_xlabel("l2 radius")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--dataset",
        choices=("fashion_mnist", "digits"),
        default="fashion_mnist",
    )
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--n", type=int, default=4_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    x_train, y_train = ks.datasets.load(
        arguments.dataset, f"train[:{arguments.train}]"
    )
    x, y = ks.datasets.load(arguments.dataset, f"test[:{arguments.examples}]")
    search = ks.DataDependentSigma(
        sigma_min=min(SIGMAS), sigma_max=max(SIGMAS), steps=arguments.steps
    )

    print("\nTraining under noise of sigma 0.25")
    plain = train(x_train, y_train, arguments.epochs)
    print("\nTraining with a sigma for each image")
    dependent = train(
        x_train,
        y_train,
        arguments.epochs,
        ks.training.DataDependent(
            ks.training.GaussianAugmentation(),
            num_examples=len(x_train),
            sigma_min=min(SIGMAS),
            sigma_max=max(SIGMAS),
            learning_rate=0.05,
            num_draws=4,
        ),
    )

    curves = {}
    for name, model in (("plain", plain), ("data-dependent", dependent)):
        print(f"\n{name} training, one sigma for all images")
        sigma, fixed = best_common_sigma(model, x, y, arguments.n)
        print(f"The best one is {sigma}.")
        curves[f"{name} training, sigma {sigma} for all"] = fixed
        print(f"\n{name} training, a sigma for each image")
        began = time.perf_counter()
        path = arguments.output / f"promises_{name}.sqlite"
        path.unlink(missing_ok=True)  # This is another network, each time.
        with ks.CertificationMemory(path) as memory:
            own = model.certify(
                x,
                y,
                n=arguments.n,
                seed=0,
                sigma=search,
                memory=memory,
                verbose=2,
            )
            print(f"{time.perf_counter() - began:.0f} s")
            own.summary(RADII)
            print("\nAn attack inside the certified balls")
            attack(model, search, memory, x, own)
        curves[f"{name} training, own sigma"] = own

    print()
    print(ks.evaluation.table(curves, RADII))
    path = arguments.output / f"data_dependent_{arguments.dataset}.png"
    draw(x, own, curves, path)
    print(f"The curves are in {path}.")


if __name__ == "__main__":
    main()
