"""What each method costs and gains on one data set: the table of a guide.

    python benchmarks/methods_table.py --output docs/data/methods.json

Trains a small network on the handwritten digits in each way, certifies 100 test
images with n = 5,000 draws at most, and does that for three seeds. Prints
JSON: certified accuracy, ACR, draws of an example, and time relative to the
first row of the same seed. Takes about fifteen minutes on two cores.
"""

import argparse
import json
import pathlib
import statistics
import time

import keras

import keras_smoothing as ks
from keras_smoothing.logs.log_format import versions

RADII = [0.0, 0.25, 0.5, 0.7]
N = 5_000


def convnet():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def equilibrium_network():
    cell = ks.equilibrium.cells.ContractiveDense(64, contraction=0.8)
    solver = ks.equilibrium.FixedPointIteration(max_iter=50, tol=1e-3)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            ks.layers.DeepEquilibrium(cell, solver),
            keras.layers.Dense(10),
        ]
    )


def trained(model, x, y, epochs=40, objective=None):
    arguments = {} if objective is None else {"objective": objective}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, **arguments)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def smoothed(
    x, y, sigma=0.25, network=convnet, epochs=40, objective=None, **kw
):
    model = ks.SmoothedModel(network(), ks.noise.Gaussian(sigma), **kw)
    return trained(model, x, y, epochs, objective)


def denoised(x, y):
    classifier = trained(convnet(), x, y)
    denoiser = ks.applications.dncnn((8, 8, 1), depth=5, filters=16)
    pair = ks.training.Denoised(classifier, denoiser)
    model = ks.SmoothedModel(pair, ks.noise.Gaussian(0.25))
    return trained(model, x, y, objective=ks.training.Denoising())


def self_ensemble(x, y):
    noisy = ks.randomize(convnet(), 0.25, 0.1, verbose=0)
    return ks.SmoothedModel(trained(noisy, x, y))


def truncated(model, x, y):
    short = ks.serialized.truncate(model.base_model, steps=2, x=x[:500])
    return trained(ks.SmoothedModel(short, model.noise), x, y, epochs=10)


def methods(x, y):
    """Name, function that trains, and further arguments of `certify`."""
    objectives = ks.training
    search = ks.DataDependentSigma(sigma_min=0.12, sigma_max=1.0)
    plain = smoothed(x, y)
    deq = smoothed(x, y, network=equilibrium_network)
    yield "Gaussian, sigma 0.25", plain, {}
    yield (
        "adaptive sampling",
        plain,
        {"stopping": ks.AdaptiveSampling(RADII, max_n=N)},
    )
    yield "sigma 0.5", smoothed(x, y, 0.5), {}
    # As many gradient passes as plain training has.
    for name, objective, epochs in (
        ("Stability", objectives.Stability(), 20),
        ("Consistency", objectives.Consistency(num_copies=2), 20),
        ("SmoothAdv", objectives.SmoothAdv(0.5, num_steps=1), 10),
        ("MACER", objectives.MACER(num_copies=4), 10),
    ):
        yield name, smoothed(x, y, epochs=epochs, objective=objective), {}
    yield "denoiser, fixed classifier", denoised(x, y), {}
    yield "a sigma for each image", plain, {"sigma": search}
    group = ks.groups.HorizontalFlip("channels_last")
    yield "flips covered", smoothed(x, y, group=group), {}
    yield "self-ensemble", self_ensemble(x, y), {}
    yield "equilibrium", deq, {}
    yield "equilibrium, exact", deq, {"serialized": ks.serialized.Exact()}
    yield "equilibrium, audited", deq, {"serialized": ks.serialized.Audited()}
    yield "equilibrium, truncated", truncated(deq, x, y), {}


def measure(seed, num_examples):
    keras.utils.set_random_seed(seed)
    x, y = ks.datasets.load("digits", "train")
    test = ks.datasets.load("digits", f"test[:{num_examples}]")
    for name, model, arguments in methods(x, y):
        if "stopping" not in arguments:
            arguments["n"] = N
        # The graph is made before the clock runs.
        for some in (test[0][:16], test[0]):
            if "sigma" in arguments:
                arguments["memory"] = ks.CertificationMemory()
            began = time.perf_counter()
            result = model.certify(
                some,
                test[1][: len(some)],
                seed=seed,
                batch_size=4096,
                verbose=0,
                **arguments,
            )
            seconds = time.perf_counter() - began
        yield (
            name,
            {
                "accuracy": result.certified_accuracy(RADII).tolist(),
                "acr": float(result.average_certified_radius()),
                "draws": float(result.num_samples.mean()),
                "seconds": seconds,
            },
        )


def summary(runs):
    """The rows of the table, of the runs of each method."""
    first = next(iter(runs.values()))

    def percent(k):
        values = [100 * run["accuracy"][k] for run in rows]
        return f"{statistics.median(values):.0f}"

    for name, rows in runs.items():
        acr = [run["acr"] for run in rows]
        ratios = [
            run["seconds"] / base["seconds"]
            for run, base in zip(rows, first, strict=True)
        ]
        draws = statistics.median(run["draws"] for run in rows)
        yield {
            "method": name,
            **{f"{r:g}": percent(k) for k, r in enumerate(RADII)},
            "ACR": f"{statistics.median(acr):.3f} "
            f"({min(acr):.3f} to {max(acr):.3f})",
            "draws": f"{draws:,.0f}",
            "time": f"{statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
        }


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--output", type=pathlib.Path, help="as a file, too")
    arguments = parser.parse_args()
    runs = {}
    for seed in range(arguments.seeds):
        for name, run in measure(seed, arguments.examples):
            runs.setdefault(name, []).append(run)
    rows = list(summary(runs))
    text = json.dumps(
        {
            "columns": list(rows[0]),
            "rows": rows,
            "n": N,
            "seeds": arguments.seeds,
            "examples": arguments.examples,
            "versions": versions(),
            "runs": runs,
        },
        indent=1,
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
