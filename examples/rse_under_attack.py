"""Random self-ensembles under attack, as in the paper's comparison.

    python examples/rse_under_attack.py
    python examples/rse_under_attack.py --network resnet --epochs 5

Trains one network on Fashion-MNIST undefended, adversarially and as a random
self-ensemble, and attacks each with the paper's C&W attack at several c: with
one draw of the noise for each step, as the paper does, and with gradients
averaged over twenty (expectation over transformation). Beside the attacks
stands what can be proved, of the ensemble and of the same network trained and
smoothed with noise at the input alone.

Prints tables, and writes the networks and a plot into `output/`.
"""

import argparse
import pathlib

import keras
import numpy as np
import tensorflow as tf
from networks import resnet
from networks import vgg

import keras_smoothing as ks

NETWORKS = {"vgg": vgg, "resnet": resnet}
# The paper's, and three that reach further.
C = [0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0]
RADII = [0.0, 0.1, 0.25, 0.5]


class AdversariallyTrained(keras.Model):
    """A classifier that trains on l2-PGD examples (Madry et al., 2018)."""

    def __init__(self, model, epsilon, num_steps=5):
        super().__init__()
        self.model = model
        self.epsilon = epsilon
        self.num_steps = num_steps

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def train_step(self, data):
        x, y = data
        return super().train_step((self.attack(x, y), y))

    def attack(self, x, y):
        delta = tf.zeros_like(x)
        for _ in range(self.num_steps):
            with tf.GradientTape() as tape:
                tape.watch(delta)
                logits = self.model(x + delta, training=False)
                loss = keras.losses.sparse_categorical_crossentropy(
                    y, logits, from_logits=True
                )
            step = normalized(tape.gradient(loss, delta))
            delta += 2.5 / self.num_steps * self.epsilon * step
            delta = tf.clip_by_norm(delta, self.epsilon, axes=(1, 2, 3))
            delta = tf.clip_by_value(x + delta, 0.0, 1.0) - x
        return x + delta


def normalized(v):
    norm = tf.sqrt(tf.reduce_sum(v**2, axis=(1, 2, 3), keepdims=True))
    return v / (norm + 1e-12)


def fit(model, x, y, epochs):
    steps = epochs * -(-len(x) // 128)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=2)


def train_all(build, x, y, arguments):
    """The four models, from files where they are there."""
    shape = x.shape[1:]
    # Files of other settings are not mistaken for these.
    settings = (arguments.epochs, arguments.train, arguments.init_stddev)
    settings += (arguments.inner_stddev, arguments.epsilon)
    settings = "_".join(f"{value:g}" for value in settings)

    def undefended():
        model = build(shape)
        fit(model, x, y, arguments.epochs)
        return model

    def adversarial():
        model = build(shape)
        fit(
            AdversariallyTrained(model, arguments.epsilon),
            x,
            y,
            arguments.epochs,
        )
        return model

    def rse():
        model = ks.randomize(
            build(shape), arguments.init_stddev, arguments.inner_stddev
        )
        fit(model, x, y, arguments.epochs)
        return model

    def smoothed():
        noise = ks.noise.Gaussian(arguments.init_stddev)
        model = ks.add_input_noise(build(shape), noise)
        fit(model, x, y, arguments.epochs)
        return model

    models = {}
    for train in (undefended, adversarial, rse, smoothed):
        name = f"{arguments.network}_{train.__name__}_{settings}.keras"
        path = arguments.output / name
        if not path.exists():
            print(f"\nTraining {path.stem}")
            train().save(path)
        models[train.__name__] = keras.saving.load_model(path)
    return models


def print_attacked(name, model, x, y, draws, arguments):
    """Accuracy under the paper's C&W attack at every c."""
    result = ks.evaluation.robust_accuracy(
        model,
        x,
        y,
        ks.attacks.carlini_wagner,
        arguments.c,
        num_draws=draws,
        from_logits=True,
        batch_size=125,
        verbose=0,
    )
    print(f"\n{name}\n{result.table()}")
    for num_draws, distances in zip(draws, result.distance, strict=True):
        norms = np.median(distances, axis=-1).round(2).tolist()
        print(f"median l2 distance, draws {num_draws}: {norms}")


def print_sandwich(name, model, x, y, arguments):
    """Certified accuracy below, accuracy under l2-PGD above."""
    stopping = ks.AdaptiveSampling(RADII, max_n=arguments.n)
    certified = model.certify(x, y, stopping=stopping, seed=0, verbose=2)
    result = ks.evaluation.robust_accuracy(
        model,
        x,
        y,
        ks.attacks.l2_pgd,
        RADII,
        num_draws=arguments.draws,
        from_logits=True,
        num_steps=20,
        batch_size=125,
        verbose=0,
    )
    print(f"\n{name}, {certified}\n{result.table(certified)}")
    path = arguments.output / f"{arguments.network}_{name}.png"
    result.plot(certified).figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, default="vgg")
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--init-stddev", type=float, default=0.2)
    parser.add_argument("--inner-stddev", type=float, default=0.1)
    parser.add_argument("--epsilon", type=float, default=0.5)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--c", type=float, nargs="+", default=C)
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    train, test = f"train[:{arguments.train}]", f"test[:{arguments.examples}]"
    models = train_all(
        NETWORKS[arguments.network],
        *ks.datasets.load("fashion_mnist", train),
        arguments,
    )
    x, y = ks.datasets.load("fashion_mnist", test)
    ensemble = ks.RandomSelfEnsemble(models["rse"], 50, from_logits=True)

    print("\nAccuracy under C&W at c (strength)")
    for name in ("undefended", "adversarial"):
        print_attacked(name, models[name], x, y, [1], arguments)
    print_attacked("rse", ensemble, x, y, arguments.draws, arguments)

    print("\nAccuracy under l2-PGD inside a radius (strength)")
    print_sandwich("rse", ensemble, x, y, arguments)
    smoothed = ks.SmoothedModel(models["smoothed"])
    print_sandwich("smoothed", smoothed, x, y, arguments)


if __name__ == "__main__":
    main()
