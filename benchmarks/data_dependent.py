"""What a sigma for each image is worth, over the best one for all.

    python benchmarks/data_dependent.py --output runs

Prints JSON. For each way of training, a small network is trained on
Fashion-MNIST at each of several sigmas, and once with a sigma for each training
image (`DataDependent`). Test images are certified with each sigma, and with one
of their own under a memory: average certified radius, certified accuracy. Then
images are attacked inside their certified balls, by an attacker who moves sigma
as well, with the memory and without.

A budget is a number of gradient passes for each training image, those of the
search for sigma not counted. Models, logs and memories stay in the output
folder, and a run that was interrupted goes on where it stopped.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import network
from common import print_json
from keras import ops

import keras_smoothing as ks
from keras_smoothing import backend
from keras_smoothing.l2 import step_in_ball
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.sigma_search import Searcher

RADII = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]


def ways(sigma, num_passes):
    """Objectives by name, each with the gradient passes of one step."""
    passes = 6
    return {
        "gaussian": (1, ks.training.GaussianAugmentation()),
        "smooth_adv": (
            passes,
            ks.training.SmoothAdv(
                2 * sigma, 2, 2, warmup_steps=num_passes // passes // 5
            ),
        ),
        "macer": (8, ks.training.MACER(num_copies=8)),
    }


def figures(result):
    found = {
        "acr": result.average_certified_radius(),
        "certified_accuracy": dict(
            zip(RADII, result.certified_accuracy(RADII), strict=True)
        ),
        "accuracy": float(result.correct.mean()),
        "abstained": float((result.prediction == ks.ABSTAIN).mean()),
        "seconds": result.time.sum(),
    }
    if (result.scale != 1).any():
        found["sigma"] = np.quantile(result.sigma, [0, 0.25, 0.5, 0.75, 1])
        volume = np.where(result.correct, result.volume_radius, 0)
        found["acr_of_volume"] = volume.mean()
        found["certified_accuracy_of_volume"] = dict(
            zip(RADII, [(volume >= r).mean() for r in RADII], strict=True)
        )
    return found


def attacked(model, search, memory, x, result, num_steps, num_draws):
    """How often an image changes its class inside its ball.

    At each step the attacker finds sigma where the image is by then, and goes
    against the mean probability of the promised class under that noise. All
    images of the way count, also the first random one.
    """
    rng = np.random.default_rng(0)
    certified = np.flatnonzero(result.radius > 0)[: len(x)]
    x, promised = x[certified], result.prediction[certified]
    # Of sigmas and images in float32, rounding must not leave the ball.
    shape = (-1,) + (1,) * (x.ndim - 1)
    epsilon = (1 - 1e-5) * result.radius[certified].reshape(shape)
    noise = ops.convert_to_numpy(
        model.noise.sample((num_draws, *x.shape[1:]), seed=1)
    )

    @backend.compile
    def gradient_of(x, scale, promised):
        def loss(x):
            noisy = ops.expand_dims(x, 1) + scale * noise
            outputs = model.base_model(
                ops.reshape(noisy, (-1, *x.shape[1:])), training=False
            )
            log_p = log_probabilities(outputs, from_logits=True)
            p = ops.reshape(ops.exp(log_p), (-1, num_draws, log_p.shape[-1]))
            label = ops.one_hot(promised, log_p.shape[-1])
            return -ops.log(ops.sum(label * ops.mean(p, axis=1), axis=-1))

        return backend.input_gradient(loss, x)

    delta = rng.normal(size=x.shape)
    delta /= np.sqrt(np.sum(delta**2, axis=(1, 2, 3), keepdims=True))
    delta = (epsilon * delta).astype("float32")
    searcher = Searcher(search, model)  # Compiled once.
    changed = {"without a memory": [], "with it": []}
    calls = dict(sigma=search, n=1_000, alpha=0.001, seed=0)
    for _ in range(num_steps):
        moved = x + delta
        answers = {
            "without a memory": model.classify(moved, **calls),
            "with it": model.classify(moved, memory=memory, **calls),
        }
        for name, answer in answers.items():
            changed[name].append((answer != promised) & (answer != ks.ABSTAIN))
        scale = searcher(moved, seed=0).sigma / model.noise.stddev
        scale = scale.reshape((len(x), -1) + (1,) * (x.ndim - 1))
        gradient = gradient_of(moved, scale.astype("float32"), promised)
        delta = ops.convert_to_numpy(
            step_in_ball(
                x,
                delta,
                gradient,
                epsilon.astype("float32"),
                2 * epsilon.astype("float32") / num_steps,
                (0.0, 1.0),
            )
        )
    return {
        "images": len(x),
        **{
            name: int(np.any(changes, axis=0).sum())
            for name, changes in changed.items()
        },
    }


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--ways", nargs="+", default=["gaussian", "smooth_adv", "macer"]
    )
    parser.add_argument(
        "--sigmas", type=float, nargs="+", default=[0.12, 0.25, 0.5, 1.0]
    )
    parser.add_argument("--sigma-min", type=float, default=0.12)
    parser.add_argument("--sigma-max", type=float, default=1.0)
    parser.add_argument(
        "--searched", type=float, nargs="*", default=[0.25, 0.5]
    )
    parser.add_argument(
        "--budget", type=int, default=48, help="gradient passes for each image"
    )
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--training-examples", type=int, default=60_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument(
        "--few", type=int, default=100, help="images that choose a common sigma"
    )
    parser.add_argument("--width", type=float, default=1.0, help="of layers")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--ancer", type=int, default=0, help="images")
    parser.add_argument("--attacked", type=int, default=64, help="images")
    parser.add_argument("--attack-steps", type=int, default=10)
    parser.add_argument("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    data = ks.datasets.load(
        "fashion_mnist", f"train[:{arguments.training_examples}]"
    )
    x, y = ks.datasets.load("fashion_mnist", f"test[:{arguments.examples}]")
    bounds = arguments.sigma_min, arguments.sigma_max
    search = ks.DataDependentSigma(*bounds)
    steps_per_epoch = -(-len(data[0]) // arguments.batch_size)

    def trained(way, sigma, is_data_dependent=False):
        """A model of its own file, and its epochs."""
        name = f"{way}_{'own' if is_data_dependent else sigma}"
        path = arguments.output / f"{name}.keras"
        passes, objective = ways(sigma, arguments.budget * steps_per_epoch)[way]
        epochs = max(1, arguments.budget // passes)
        if not path.exists():
            keras.utils.set_random_seed(0)
            model = ks.SmoothedModel(
                network(width=arguments.width),
                ks.noise.Gaussian(sigma),
                seed=0,
            )
            if is_data_dependent:
                objective = ks.training.DataDependent(
                    objective,
                    len(data[0]),
                    *bounds,
                    learning_rate=arguments.learning_rate,
                    num_draws=4,
                )
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(
                "adam", loss, metrics=["accuracy"], objective=objective
            )
            start = time.perf_counter()
            model.fit(
                *data,
                epochs=epochs,
                batch_size=arguments.batch_size,
                verbose=2,
            )
            print(name, time.perf_counter() - start, "s")
            model.save(path)
        return name, keras.saving.load_model(path)

    def certified(name, model, count=None, **settings):
        return model.certify(
            x[:count],
            y[:count],
            n=arguments.n,
            seed=0,
            log=arguments.output / f"{name}.tsv",
            verbose=2,
            **settings,
        )

    def with_own_sigma(name, model, search, count=None):
        with ks.CertificationMemory(
            arguments.output / f"{name}.sqlite"
        ) as memory:
            return certified(name, model, count, sigma=search, memory=memory)

    def best_common_sigma(name, model):
        """The sigma with the largest ACR of a few images, and all of them."""
        found = {}
        for sigma in arguments.sigmas:
            fixed = ks.SmoothedModel(model.base_model, ks.noise.Gaussian(sigma))
            few = certified(f"{name}_at_{sigma}_few", fixed, arguments.few)
            found[sigma] = few.average_certified_radius()
        best = max(found, key=found.get)
        fixed = ks.SmoothedModel(model.base_model, ks.noise.Gaussian(best))
        return best, certified(f"{name}_at_{best}", fixed)

    report = {
        "search": repr(search),
        "width": arguments.width,
        "budget": arguments.budget,
        "training_examples": len(data[0]),
        "examples": len(x),
        "n": arguments.n,
    }
    for way in arguments.ways:
        rows = report[way] = {}
        for sigma in arguments.sigmas:
            name, model = trained(way, sigma)
            rows[name] = figures(certified(name, model))
            if sigma in arguments.searched:
                own = f"{name}_searched"
                rows[own] = figures(with_own_sigma(own, model, search))
                at, fixed = best_common_sigma(name, model)
                rows[f"{name}_at_{at}"] = figures(fixed)
        name, model = trained(way, 0.25, is_data_dependent=True)
        result = with_own_sigma(f"{name}_searched", model, search)
        rows[f"{name}_searched"] = figures(result)
        at, fixed = best_common_sigma(name, model)
        rows[f"{name}_at_{at}"] = figures(fixed)
        if arguments.ancer:
            ancer = with_own_sigma(
                f"{name}_ancer", model, ks.ANCER(search), arguments.ancer
            )
            rows[f"{name}_ancer"] = figures(ancer)
            rows[f"{name}_searched_as_many"] = figures(
                result[: arguments.ancer]
            )
        if arguments.attacked:
            with ks.CertificationMemory(
                arguments.output / f"{name}_searched.sqlite"
            ) as memory:
                count = arguments.attacked
                rows[f"{name}_attacked"] = attacked(
                    model,
                    search,
                    memory,
                    x[:count],
                    result[:count],
                    arguments.attack_steps,
                    num_draws=32,
                )
    return report


def _to_list(array):
    return np.asarray(array).tolist()


if __name__ == "__main__":
    print_json(main, default=_to_list)
