"""Equilibrium networks, certified many times faster and just as soundly.

    python examples/serialized_smoothing.py
    python examples/serialized_smoothing.py --network mdeq

A certificate takes thousands of noisy copies of one image, and an equilibrium
network solves for a fixed point for each of them. Copies of one image have
fixed points close together: whoever starts from that of the clean image needs a
step or two where others need ten or thirty.

Why that is dangerous. A certificate is about one function f: votes of f on
noisy copies of x say what f does near x. Two steps from the fixed point of x
are another function at every x: the one whose votes were counted at x is not
the one that is asked at x + d, so nothing follows for it. And what the start
remembers of x makes all votes agree with it: the shortcut may vote 9 : 1 for a
class that the network itself gives 6 : 4.

What makes it safe, in three ways:

- exact: go on with each copy until a proved bound of the remaining error is too
  small to change its vote. Then the vote is the network's own. For cells that
  have such a bound (contractive, monotone).
- audited: take three steps for all copies, and let the network itself vote on
  some of them, chosen at random beforehand. Whatever made the shortcut fail, so
  many of its votes and no more may be wrong. For all cells; it costs radius.
- truncated: start from one state that is the same for all inputs, and call what
  comes out of two steps the network. That is an ordinary classifier, and a bit
  of training makes a good one of it. For all cells.

This trains a network under noise, certifies the same images in these ways and
in the plain one, prints certified accuracy and time side by side, and draws the
curves into `output/`. At the end it shows the same idea without certificates: a
network that looks at the frames of a video.
"""

import argparse
import pathlib
import time

import keras
import numpy as np

import keras_smoothing as ks

RADII = [0.0, 0.1, 0.25, 0.5]


def dense(input_shape):
    """One contractive layer: its fixed points have an error bound."""
    cell = ks.equilibrium.cells.ContractiveDense(128, contraction=0.8)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            ks.layers.DeepEquilibrium(cell, name="deq"),
            keras.layers.Dense(10),
        ]
    )


def mdeq(input_shape):
    """The multiscale network of Bai et al. Nothing is proved of its cell."""
    return ks.applications.mdeq_small(input_shape, num_classes=10)


# Name: the dataset, the network, and whether its cell has an error bound.
NETWORKS = {
    "dense": ("fashion_mnist", dense, True),
    "mdeq": ("digits", mdeq, False),
}


def fit(model, x, y, epochs, callbacks=()):
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x, y, batch_size=128, epochs=epochs, callbacks=callbacks, verbose=2
    )


def print_side_by_side(results, seconds):
    radii = "".join(f"{radius:>7}" for radius in RADII)
    print(f"\n{'certified accuracy at':<24}{radii}  seconds  steps per draw")
    for name, result in results.items():
        accuracy = result.certified_accuracy(RADII)
        cells = "".join(f"{share:>7.1%}" for share in accuracy)
        line = f"{name:<24}{cells}{seconds[name]:>9.1f}"
        if "steps" in result.findings:
            steps = result.findings["steps"] / (100 + result.num_samples)
            line += f"{steps.mean():>16.1f}"
        print(line)


def watch_a_video(model, image):
    """Frames in which an image moves a little, cold and warm."""
    frames = [np.roll(image, k // 4, axis=1)[np.newaxis] for k in range(16)]
    stream = ks.serialized.WarmStart(model)
    for name, start in (("each by itself", stream.reset), ("in a row", None)):
        steps = []
        stream.reset()
        for frame in frames:
            if start is not None:
                start()
            stream(frame)
            steps.append(int(stream.solution.num_steps[0]))
        print(f"frames {name}: {np.mean(steps):.1f} steps each")


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, default="dense")
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--n", type=int, default=4_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    dataset, build, is_proved = NETWORKS[arguments.network]
    x_train, y_train = ks.datasets.load(dataset, f"train[:{arguments.train}]")
    x, y = ks.datasets.load(dataset, f"test[:{arguments.examples}]")
    noise = ks.noise.Gaussian(arguments.sigma)

    print("\nTraining under noise")
    network = build(x.shape[1:])
    model = ks.SmoothedModel(network, noise)
    pretraining = ks.callbacks.UnrolledPretraining(epochs=1, steps=4)
    fit(model, x_train, y_train, arguments.epochs, [pretraining])

    print("\nTraining two steps from one start, for an epoch more")
    short = ks.serialized.truncate(network, steps=2, x=x_train[:500])
    short = ks.SmoothedModel(short, noise)
    fit(short, x_train, y_train, 1)

    ways = {
        "every draw solved": (model, None),
        "audited": (model, ks.serialized.Audited(steps=3)),
        "truncated": (short, None),
    }
    if is_proved:
        ways["exact"] = (model, ks.serialized.Exact())
    results, seconds = {}, {}
    for name, (smoothed, form) in ways.items():
        print(f"\nCertifying: {name}")
        began = time.perf_counter()
        results[name] = smoothed.certify(
            x,
            y,
            n=arguments.n,
            batch_size=4_096,
            seed=0,
            serialized=form,
            verbose=2,
        )
        seconds[name] = time.perf_counter() - began
    print_side_by_side(results, seconds)

    audited = results["audited"].findings
    print(
        f"\nOf {audited['audited'].sum():,} audited votes the network did not "
        f"confirm {audited['disagreed'].sum():,}."
    )
    if is_proved:
        open_votes = results["exact"].findings["unsettled"].sum()
        print(f"Of the exact votes, {open_votes:,} stayed open.")
    print()
    watch_a_video(network, x[0])

    curves = {
        f"{name} ({seconds[name]:.0f} s)": result
        for name, result in results.items()
    }
    ax = ks.evaluation.plot_certified_accuracy(curves)
    ax.set_xlabel("l2 radius")
    ax.set_title(f"{arguments.network}, sigma {arguments.sigma}")
    path = arguments.output / f"serialized_{arguments.network}.png"
    ax.figure.savefig(path, dpi=150)
    print(f"The curves are in {path}.")


if __name__ == "__main__":
    main()
