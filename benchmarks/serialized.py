"""Serialized smoothing against solving every draw, on equilibrium networks.

    python benchmarks/serialized.py --output runs
    python benchmarks/serialized.py --networks "dense free" --examples 50

Prints JSON. Each network is trained on Fashion-MNIST, unrolled at first, under
the noise that it is certified with. Its certificates are then made in these
ways, with one seed:

- anderson_30: every draw solved by 30 steps of Anderson, as was published;
- tolerance: every draw solved to a relative residual of 1e-3;
- exact, adaptive_exact: `ks.serialized.Exact`, with fixed and with adaptive
  sampling; for contractive and monotone cells;
- audited, adaptive_audited: `ks.serialized.Audited` of the network that stops
  at tolerance, in three steps, a fifth of the draws audited; for free cells;
- truncated: `ks.serialized.truncate`, trained for some epochs more; for free
  cells.

Draws per second are measured apart from that, on 16 images, all ways in turn,
round after round, in one process. Models and logs stay in the output folder,
and a run that was interrupted goes on where it stopped.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import print_json
from common import ratio
from common import spread
from keras import layers

import keras_smoothing as ks
from keras_smoothing import backend
from keras_smoothing.certificates import tiles
from keras_smoothing.equilibrium.state import l2_norm
from keras_smoothing.sampling import VoteSampler
from keras_smoothing.sampling import noise_blocks
from keras_smoothing.serialized.noisy_copies import noisy_copies

cells = ks.equilibrium.cells
CELLS = {
    "dense contractive": lambda: cells.ContractiveDense(128, contraction=0.8),
    "dense monotone": lambda: cells.MonotoneDense(128),
    "dense free": lambda: cells.DenseCell(128),
    "convolutional contractive": lambda: cells.ContractiveConv2D(
        24, contraction=0.8, activation="relu"
    ),
    "convolutional monotone": lambda: cells.MonotoneConv2D(24),
    "convolutional free": lambda: cells.ConvCell(24),
}
FREE = {"dense free", "convolutional free"}
PUBLISHED = ks.equilibrium.Anderson(30, tol=1e-30)
SPEED_EXAMPLES, SPEED_DRAWS = 16, 4_096


def network(name):
    """The network, whose solver stops at tolerance."""
    solver = ks.equilibrium.FixedPointIteration(100, tol=1e-3)
    penalty = 0.0
    if name in FREE:
        # Without the penalty, warm starts need more steps than are saved.
        solver, penalty = ks.equilibrium.Anderson(30, tol=1e-3), 1.0
    deq = ks.layers.DeepEquilibrium(
        CELLS[name](), solver, jacobian_weight=penalty, name="deq"
    )
    inputs = keras.Input((28, 28, 1))
    if name.startswith("dense"):
        z = deq(layers.Flatten()(inputs))
    else:
        z = layers.Conv2D(24, 4, strides=4)(inputs)
        z = layers.Flatten()(deq(z))
    return keras.Model(inputs, layers.Dense(10)(z))


def fit(model, epochs, learning_rate, callbacks=()):
    x, y = ks.datasets.load("fashion_mnist", "train")
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate, epochs * -(-len(x) // 128)
    )
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x, y, batch_size=128, epochs=epochs, callbacks=callbacks, verbose=2
    )


def kept(path, train):
    """The model in a file; trained where it is absent."""
    if not path.exists():
        keras.utils.set_random_seed(0)
        train().save(path)
    return keras.saving.load_model(path)


def models(name, sigma, arguments):
    """The smoothed models of a network, by what solves them."""
    noise = ks.noise.Gaussian(sigma)
    stem = f"{name}_{sigma}".replace(" ", "_")

    def train():
        model = ks.SmoothedModel(network(name), noise)
        unrolled = ks.callbacks.UnrolledPretraining(epochs=1, steps=4)
        fit(model, arguments.epochs, 1e-3, [unrolled])
        return model

    def train_truncated():
        x, _ = ks.datasets.load("fashion_mnist", "train[:1000]")
        short = ks.serialized.truncate(base, arguments.steps, x=x)
        model = ks.SmoothedModel(short, noise)
        fit(model, arguments.epochs, 1e-3)
        return model

    tolerance = kept(arguments.output / f"{stem}.keras", train)
    base = tolerance.base_model
    published = keras.models.clone_model(base)
    published.set_weights(base.get_weights())
    published.get_layer("deq").solver = PUBLISHED
    found = {
        "anderson_30": ks.SmoothedModel(published, noise),
        "tolerance": tolerance,
    }
    if name in FREE:
        file = f"{stem}_truncated_{arguments.steps}.keras"
        found["truncated"] = kept(arguments.output / file, train_truncated)
    return found


def ways(name, sigma, arguments):
    """Name: (smoothed model, what `certify` gets beside the examples)."""
    found = models(name, sigma, arguments)
    short, form = "exact", ks.serialized.Exact()
    if name in FREE:
        short = "audited"
        form = ks.serialized.Audited(arguments.n // 5, steps=3)
    rules = {
        "": ks.FixedSampling(arguments.n),
        "adaptive_": ks.AdaptiveSampling(arguments.radii, max_n=arguments.n),
    }
    fixed = {"stopping": rules[""]}
    return {
        **{way: (model, fixed) for way, model in found.items()},
        **{
            prefix + short: (
                found["tolerance"],
                {"stopping": rule, "serialized": form},
            )
            for prefix, rule in rules.items()
        },
    }


def table(path, way, x, y, arguments):
    """Certified accuracy at every radius, and what it took."""
    model, settings = way
    began = time.perf_counter()
    result = model.certify(
        x,
        y,
        **settings,
        seed=0,
        batch_size=arguments.batch_size,
        log=path,
        verbose=2,
    )
    seconds = time.perf_counter() - began
    accuracy = result.certified_accuracy(arguments.radii)
    made = arguments.n0 + result.num_samples
    report = {
        "certified_percent": (100 * accuracy).round(1).tolist(),
        # Of all rows: those of an earlier run count as they were timed there.
        "seconds": round(float(max(seconds, result.time.sum())), 1),
        "draws_per_example": round(float(made.mean()), 1),
    }
    for finding, numbers in result.findings.items():
        share = numbers.sum() / made.sum()
        report[f"{finding}_per_draw"] = round(float(share), 5)
    return report, result


def speed(all_ways, x, arguments):
    """Draws per second of each way, and paired ratios to the published one."""
    seconds = {way: [] for way in all_ways if not way.startswith("adaptive")}
    settings = dict(
        seed=1,
        stream=tiles.ESTIMATION,
        start=0,
        stop=arguments.speed_draws,
        batch_size=arguments.batch_size,
    )
    samplers = {}
    for way in seconds:
        model, given = all_ways[way]
        sampler = model._sampler(given.get("serialized"))
        claim = sampler.claim(0.001, given["stopping"])
        samplers[way] = sampler.tuned(x, claim)
        samplers[way].count(x, **settings)
    for _ in range(arguments.rounds):
        for way, sampler in samplers.items():
            began = time.perf_counter()
            sampler.count(x, **settings)
            seconds[way].append(time.perf_counter() - began)
    number = len(x) * arguments.speed_draws
    report = {
        "draws_per_second": {
            way: spread([number / s for s in times])
            for way, times in seconds.items()
        },
        "times_faster_than_anderson_30": {
            way: ratio(seconds["anderson_30"], times)
            for way, times in seconds.items()
        },
        "times_faster_than_tolerance": {
            way: ratio(seconds["tolerance"], times)
            for way, times in seconds.items()
        },
    }
    exact = samplers.get("exact")
    if exact is not None:
        per_draw = min(seconds["exact"]) / number
        steps = exact.count(x, **settings).findings["steps"].sum() / number
        report["shares"] = shares(exact, x, steps, per_draw, arguments)
        report["check"] = check(exact, x, settings)
    else:
        report["audited_steps"] = samplers["audited"].steps
        report["audited_share"] = samplers["audited"].audit_share
    return report


def check(exact, x, settings):
    """Whether settled votes are those at a residual of 1e-6."""
    settings = {**settings, "stop": -(-100_000 // len(x))}
    model = keras.models.clone_model(exact.base_model)
    model.set_weights(exact.base_model.get_weights())
    solver = ks.equilibrium.FixedPointIteration(400, tol=1e-6)
    model.get_layer("deq").solver = solver
    full = VoteSampler(model, exact.noise).count(x, **settings)
    votes = exact.count(x, **settings)
    return {
        "draws": int(votes.num_samples.sum()),
        "settled": int(votes.counts.sum()),
        "settled_but_wrong": int(
            np.maximum(votes.counts - full.counts, 0).sum()
        ),
    }


def shares(sampler, x, steps, per_draw, arguments):
    """Where the time of a draw goes, of exact votes.

    Injection, steps and judgement are timed alone, at the full width of a
    batch; the rest is bookkeeping (and noise).
    """
    width = arguments.batch_size
    tile = tiles.tile_size(x.shape[1:])
    seeds = tiles.tile_seeds(0, tiles.ESTIMATION, 0, -(-width // tile))
    drawn = noise_blocks.draw_tiles(seeds, x.shape[1:], sampler.noise, None)
    owner = np.arange(width) % len(x)
    number = np.arange(width) // len(x)
    age = np.ones(width, "int32")

    noisy = noisy_copies(sampler.parts, x, None, drawn, None)
    injection = noisy.injection(owner, number)
    state = injection * 0.0
    size = l2_norm(injection)

    @backend.compile
    def inject(x, noise):
        copies = noisy_copies(
            sampler.parts, x, None, drawn._replace(noise=noise), None
        )
        return copies.injection(owner, number)

    @backend.compile
    def step(injection, state):
        return noisy.iterate(injection)(state)

    @backend.compile
    def judge(state, following):
        return sampler._judge(state, following, size, age)

    def seconds(function, *inputs):
        function(*inputs)
        times = []
        for _ in range(20):
            began = time.perf_counter()
            np.asarray(function(*inputs)[:1])
            times.append(time.perf_counter() - began)
        return min(times) / width

    following = step(injection, state)
    parts = {
        "injection": seconds(inject, x, drawn.noise[: width // len(x)]),
        "steps": steps * seconds(step, injection, state),
        "head": steps * seconds(judge, state, following),
    }
    parts["bookkeeping"] = per_draw - sum(parts.values())
    return {
        "steps_per_draw": round(float(steps), 2),
        "microseconds_per_draw": round(1e6 * per_draw, 2),
        **{part: round(s / per_draw, 3) for part, s in parts.items()},
    }


def compare(name, sigma, arguments):
    number = max(arguments.examples, SPEED_EXAMPLES)
    x, y = ks.datasets.load("fashion_mnist", f"test[:{number}]")
    all_ways = ways(name, sigma, arguments)
    report = speed(all_ways, x[:SPEED_EXAMPLES], arguments)
    if not arguments.examples:
        return report
    x, y = x[: arguments.examples], y[: arguments.examples]
    report["tables"], results = {}, {}
    for way in all_ways:
        log = f"{name}_{sigma}_{way}.tsv".replace(" ", "_")
        report["tables"][way], results[way] = table(
            arguments.output / log, all_ways[way], x, y, arguments
        )
    seconds = {way: t["seconds"] for way, t in report["tables"].items()}
    report["table_times_faster_than_anderson_30"] = {
        way: round(seconds["anderson_30"] / s, 2) for way, s in seconds.items()
    }
    return report


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--networks", nargs="+", choices=CELLS, default=list(CELLS))
    add("--sigmas", type=float, nargs="+", default=[0.25, 0.5])
    add("--examples", type=int, default=200, help="0 for the speed alone")
    add("--n", type=int, default=10_000)
    add("--n0", type=int, default=100)
    add("--radii", type=float, nargs="+", default=np.arange(0, 1.8, 0.125))
    add("--epochs", type=int, default=4)
    add("--steps", type=int, default=2, help="of the truncated networks")
    add("--rounds", type=int, default=5)
    add("--speed-draws", type=int, default=SPEED_DRAWS)
    add("--batch-size", type=int, default=8_192)
    add("--output", type=pathlib.Path, default="output")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    report = {"radii": list(map(float, arguments.radii)), "networks": {}}
    for name in arguments.networks:
        for sigma in arguments.sigmas:
            found = compare(name, sigma, arguments)
            report["networks"][f"{name}, sigma {sigma}"] = found
            print(json.dumps({name: {sigma: found}}), flush=True)
    return report


if __name__ == "__main__":
    print_json(main)
