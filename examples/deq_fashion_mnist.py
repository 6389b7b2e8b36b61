"""Deep equilibrium networks on Fashion-MNIST, trained and certified.

    python examples/deq_fashion_mnist.py
    python examples/deq_fashion_mnist.py --cells contractive monotone

A deep equilibrium layer returns the fixed point z = cell(z, x): a network of
any depth in the memory of one layer. This trains a dense and a convolutional
one (by default) through plain `fit`: a first epoch with the cell unrolled a few
times, then with the fixed point and implicit gradients. Then it wraps the
network in `SmoothedModel`, fine-tunes it under noise, and certifies it.

The cells "contractive" and "monotone" are bound to have one fixed point,
however they are trained; the free ones are not.

Prints tables, and writes the networks and a plot of residuals into `output/`.
"""

import argparse
import pathlib

import keras
import numpy as np

import keras_smoothing as ks

SOLVER = ks.equilibrium.Anderson(max_iter=12, tol=1e-2)
CELLS = {
    "dense": lambda: ks.equilibrium.cells.DenseCell(128),
    "convolutional": lambda: ks.equilibrium.cells.ConvCell(24),
    "contractive": lambda: ks.equilibrium.cells.ContractiveConv2D(24),
    "monotone": lambda: ks.equilibrium.cells.MonotoneConv2D(24),
}


def network(name):
    # A free convolutional cell takes twice the steps of the others: there, one
    # step of gradient in place of as many backward again.
    gradient = "one_step" if name == "convolutional" else "implicit"
    deq = ks.layers.DeepEquilibrium(CELLS[name](), SOLVER, gradient, name="deq")
    inputs = keras.Input((28, 28, 1))
    if name == "dense":
        x = deq(keras.layers.Flatten()(inputs))
    else:
        x = keras.layers.Conv2D(24, 3, padding="same")(inputs)
        x = keras.layers.ReLU()(x)
        x = keras.layers.Conv2D(24, 3, strides=2, padding="same")(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = deq(keras.layers.ReLU()(x))
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.MaxPooling2D()(x)
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dropout(0.3)(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def fit(model, x, y, epochs, learning_rate, callbacks=()):
    steps = epochs * -(-len(x) // 128)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    callbacks = [ks.callbacks.SolverMonitor(), *callbacks]
    model.fit(
        x, y, batch_size=128, epochs=epochs, callbacks=callbacks, verbose=2
    )


def print_clean(name, model, x, y):
    """Accuracy without noise, and how the solver fares.

    Once as trained, and once solved to the fixed point. Where the two differ,
    what was trained is not the equilibrium.
    """
    exact = keras.models.clone_model(model)
    exact.set_weights(model.get_weights())
    exact.get_layer("deq").solver = ks.equilibrium.Anderson(100, tol=1e-4)
    exact.compile(metrics=["accuracy"])
    for solved in (model, exact):
        logs = solved.evaluate(
            x, y, batch_size=500, verbose=0, return_dict=True
        )
        print(
            f"{name}: clean accuracy {logs['accuracy']:.1%} of {len(x)}, "
            f"{logs['deq_steps']:.1f} steps on average, "
            f"{logs['deq_converged']:.1%} converged to a residual of "
            f"{solved.get_layer('deq').solver.tol}"
        )


def plot_residuals(name, model, x, output):
    """Residual against steps, of the layer in the middle of the model."""
    layer = model.get_layer("deq")
    before = keras.Model(model.input, layer.input)
    _, solution = layer(before.predict(x, verbose=0), return_solution=True)
    ax = ks.equilibrium.plot_residuals(solution)
    ax.figure.savefig(output / f"deq_{name}.png", dpi=150)


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--cells",
        nargs="+",
        choices=CELLS,
        default=["dense", "convolutional"],
    )
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    x_train, y_train = ks.datasets.load(
        "fashion_mnist", f"train[:{arguments.train}]"
    )
    x, y = ks.datasets.load("fashion_mnist", f"test[:{arguments.test}]")
    few = slice(0, arguments.examples)
    radii = [0.0, 0.1, 0.25, 0.5]

    for name in arguments.cells:
        model = network(name)
        pretraining = ks.callbacks.UnrolledPretraining(epochs=1, steps=4)
        print(f"\nTraining {name}")
        fit(model, x_train, y_train, arguments.epochs, 2e-3, [pretraining])
        model.save(arguments.output / f"deq_{name}.keras")
        print_clean(name, model, x, y)
        plot_residuals(name, model, x[few], arguments.output)

        print(f"\nFine-tuning {name} under noise")
        noise = ks.noise.Gaussian(arguments.sigma)
        smoothed = ks.SmoothedModel(model, noise)
        fit(smoothed, x_train, y_train, 1, 1e-3)
        stopping = ks.AdaptiveSampling(radii, max_n=arguments.n)
        result = smoothed.certify(
            x[few], y[few], stopping=stopping, seed=0, verbose=2
        )
        result.summary(radii)
        smoothed.save(arguments.output / f"deq_{name}_smoothed.keras")
        draws = np.mean(result.num_samples)
        print(f"{draws:.0f} draws per example on average")


if __name__ == "__main__":
    main()
