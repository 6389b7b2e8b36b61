"""What each training objective makes of the same budget.

    python benchmarks/training_objectives.py --output runs

Prints JSON. A small network is trained on Fashion-MNIST with each objective,
and test images are certified: average certified radius, certified accuracy. A
budget is a number of gradient passes for each training image: an objective that
takes more passes for a step gets as many times fewer epochs. Denoisers stand
before a classifier that never saw noise, and is the more brittle the longer it
was trained, so it has a budget of its own. So have denoisers, a pass through
which costs much more than one through the network.

`--seeds` trainings are made at the first sigma, one at each other. Models and
logs stay in the output folder, and a run that was interrupted goes on where it
stopped. At the defaults it takes some hours on two cores.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import SHAPE
from common import network
from common import print_json
from common import spread

import keras_smoothing as ks

RADII = [0.25, 0.5, 0.75, 1.0]


def objectives(sigma, num_passes):
    """Objectives by name, each with the gradient passes of one step.

    Of passes of whole batches there will be `num_passes`.
    """

    def smooth_adv(num_steps, num_copies):
        passes = (num_steps + 1) * num_copies
        # The radius grows to 2 sigma over the first fifth.
        warmup_steps = num_passes // passes // 5
        return passes, ks.training.SmoothAdv(
            2 * sigma, num_steps, num_copies, warmup_steps
        )

    return {
        "gaussian": (1, ks.training.GaussianAugmentation()),
        "stability": (2, ks.training.Stability(gamma=2.0)),
        "consistency": (2, ks.training.Consistency(weight=5.0, eta=0.5)),
        "smooth_adv": smooth_adv(num_steps=2, num_copies=2),
        "macer": (8, ks.training.MACER(num_copies=8)),
        "denoised_mse": (1, ks.training.Denoising(stability=0.0)),
        "denoised_stability": (1, ks.training.Denoising(reconstruction=0.0)),
        "denoised_both": (1, ks.training.Denoising()),
    }


def compiled(model, objective=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    arguments = {} if objective is None else {"objective": objective}
    model.compile("adam", loss, metrics=["accuracy"], **arguments)
    return model


def fit(model, data, epochs, batch_size):
    start = time.perf_counter()
    model.fit(*data, epochs=epochs, batch_size=batch_size, verbose=2)
    return time.perf_counter() - start


def clean_classifier(path, width, data, budget, batch_size, seed):
    """The network trained without noise; from its file where there is one."""
    if not path.exists():
        keras.utils.set_random_seed(seed)
        model = compiled(network(width=width))
        fit(model, data, budget, batch_size)
        model.save(path)
    return keras.saving.load_model(path)


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--objectives", nargs="+", help="some of all, by name")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--budget", type=int, default=48, help="gradient passes for each image"
    )
    parser.add_argument(
        "--classifier-budget", type=int, default=6, help="behind denoisers"
    )
    parser.add_argument(
        "--denoiser-budget", type=int, default=12, help="their own"
    )
    parser.add_argument("--width", type=float, default=1.0, help="of layers")
    parser.add_argument("--training-examples", type=int, default=60_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    data = ks.datasets.load(
        "fashion_mnist", f"train[:{arguments.training_examples}]"
    )
    x, y = ks.datasets.load("fashion_mnist", f"test[:{arguments.examples}]")
    training = {
        "width": arguments.width,
        "budget": arguments.budget,
        "classifier_budget": arguments.classifier_budget,
        "denoiser_budget": arguments.denoiser_budget,
        "training_examples": len(data[0]),
        "batch_size": arguments.batch_size,
    }
    settings = arguments.output / "training.json"
    if settings.exists() and json.loads(settings.read_text()) != training:
        parser.error(f"{arguments.output} holds models of other settings")
    settings.write_text(json.dumps(training))
    report = {
        **training,
        "examples": len(x),
        "n": arguments.n,
        "sigmas": {},
    }

    def trained(name, passes, objective, sigma, seed):
        """The model, its epochs, and how many seconds they took."""
        path = arguments.output / f"{name}_{sigma}_{seed}.keras"
        seconds = path.with_suffix(".json")
        is_denoised = isinstance(objective, ks.training.Denoising)
        budget = arguments.denoiser_budget if is_denoised else arguments.budget
        epochs = max(1, budget // passes)
        if not seconds.exists():
            if is_denoised:
                classifier = clean_classifier(
                    arguments.output / f"clean_{seed}.keras",
                    arguments.width,
                    data,
                    arguments.classifier_budget,
                    arguments.batch_size,
                    seed,
                )
                keras.utils.set_random_seed(seed)
                denoiser = ks.applications.dncnn(SHAPE, depth=5, filters=16)
                base = ks.training.Denoised(classifier, denoiser)
            else:
                keras.utils.set_random_seed(seed)
                base = network(width=arguments.width)
            model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma), seed=seed)
            compiled(model, objective)
            duration = fit(model, data, epochs, arguments.batch_size)
            model.save(path)
            seconds.write_text(json.dumps(duration))
        model = keras.saving.load_model(path)
        return model, epochs, json.loads(seconds.read_text())

    steps_per_epoch = -(-len(data[0]) // arguments.batch_size)
    for sigma in arguments.sigmas:
        seeds = arguments.seeds if sigma == arguments.sigmas[0] else 1
        rows = {}
        choice = objectives(sigma, arguments.budget * steps_per_epoch)
        for name in arguments.objectives or choice:
            passes, objective = choice[name]
            results, durations = [], []
            for seed in range(seeds):
                model, epochs, seconds = trained(
                    name, passes, objective, sigma, seed
                )
                durations.append(seconds)
                log = arguments.output / f"{name}_{sigma}_{seed}.tsv"
                results.append(
                    model.certify(x, y, n=arguments.n, seed=0, log=log)
                )
            accuracy = np.array([r.certified_accuracy(RADII) for r in results])
            rows[name] = {
                "objective": repr(objective),
                "epochs": epochs,
                "training_seconds": spread(durations),
                "acr": spread([r.average_certified_radius() for r in results]),
                "certified_accuracy": {
                    radius: spread(column.tolist())
                    for radius, column in zip(RADII, accuracy.T, strict=True)
                },
            }
        report["sigmas"][sigma] = rows
    return report


if __name__ == "__main__":
    print_json(main)
