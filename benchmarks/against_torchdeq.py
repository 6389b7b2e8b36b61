"""Fixed points found by us and by torchdeq, side by side.

    pip install ".[datasets]" torch==2.13.0 torchdeq==0.1.0
    python benchmarks/against_torchdeq.py
    python benchmarks/against_torchdeq.py --norm 1.8

Prints JSON. The same cells, weights, inputs and start (zero), every
measurement in a process of its own, the two in turn, round after round. Both
solve in float32 to the same relative tolerance, with an Anderson memory of six;
a solve is timed forty times in a process, and the fastest quarter is averaged,
since other work on the machine only ever adds. Steps are applications of the
cell until the last example of the batch has converged, since torchdeq goes on
with the whole batch until then; ours stop one by one.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

TOL, MAX_ITER, MEMORY, TIMES = 1e-5, 60, 6, 40
SOLVERS = ("fixed_point_iteration", "anderson", "broyden")
# Name: shape of the state.
CELLS = {
    "dense, batch 1": (1, 256),
    "dense, batch 64": (64, 256),
    "wide dense, batch 64": (64, 2048),
    "convolution, batch 16": (16, 14, 14, 32),
}


def weights(shape, norm):
    """A kernel of about that norm, and what the input adds.

    The spectral radius of a random matrix is half of its norm.
    """
    rng = np.random.default_rng(0)
    channels = shape[-1]
    taps = (3, 3) if len(shape) == 4 else ()
    kernel = rng.normal(size=(*taps, channels, channels))
    kernel *= norm / (2 * np.sqrt(channels * max(1, np.prod(taps))))
    return kernel.astype("float32"), rng.normal(size=shape).astype("float32")


def ours(shape, norm, solver):
    """Functions that solve once, and that say what was found."""
    import keras
    import tensorflow as tf

    from keras_smoothing import equilibrium

    settings = dict(max_iter=MAX_ITER, tol=TOL, stop_mode="rel")
    solver = {
        "fixed_point_iteration": equilibrium.FixedPointIteration(**settings),
        "anderson": equilibrium.Anderson(memory=MEMORY, **settings),
        "broyden": equilibrium.Broyden(**settings),
    }[solver]
    kernel, u = (keras.ops.convert_to_tensor(w) for w in weights(shape, norm))

    def cell(z):
        if len(shape) == 4:
            return keras.ops.tanh(keras.ops.conv(z, kernel, padding="same") + u)
        return keras.ops.tanh(keras.ops.matmul(z, kernel) + u)

    z_init = keras.ops.zeros(shape)
    solve = tf.function(lambda z: solver.solve(cell, z))

    def report():
        solution = solve(z_init)
        return np.array(solution.value), int(np.max(solution.num_steps))

    return lambda: solve(z_init), report


def theirs(shape, norm, solver):
    import torch
    from torchdeq.solver import get_solver

    names = {"fixed_point_iteration": "fixed_point_iter"}
    solver = get_solver(names.get(solver, solver))
    kernel, u = (torch.from_numpy(w) for w in weights(shape, norm))
    if len(shape) == 4:
        # Channels come first there, taps last.
        kernel = kernel.permute(3, 2, 0, 1).contiguous()
        u = u.permute(0, 3, 1, 2).contiguous()
    steps = 0

    def cell(z):
        nonlocal steps
        steps += 1
        if len(shape) == 4:
            z = torch.nn.functional.conv2d(z, kernel, padding="same")
            return torch.tanh(z + u)
        return torch.tanh(z @ kernel + u)

    def solve():
        with torch.no_grad():
            return solver(
                cell,
                torch.zeros_like(u),
                max_iter=MAX_ITER,
                tol=TOL,
                stop_mode="rel",
                m=MEMORY,
            )[0]

    def report():
        nonlocal steps
        steps = 0
        value = solve()
        if len(shape) == 4:
            value = value.permute(0, 2, 3, 1)
        return value.numpy(), steps

    return solve, report


def measure(way, path, norm):
    """What one process does: solves everything, and prints how it went."""
    reports, values = {}, {}
    for name, shape in CELLS.items():
        for solver in SOLVERS:
            make = {"ours": ours, "theirs": theirs}[way]
            solve, report = make(shape, norm, solver)
            value, steps = report()
            values[f"{name}, {solver}"] = value
            seconds = []
            for _ in range(TIMES):
                began = time.perf_counter()
                solve()
                seconds.append(time.perf_counter() - began)
            fastest = np.sort(seconds)[: TIMES // 4].mean()
            reports[f"{name}, {solver}"] = {
                "steps": steps,
                "milliseconds": 1e3 * float(fastest),
            }
    np.savez(path, **values)
    print(json.dumps(reports))


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--norm", type=float, default=0.9, help="of the linear part of cells"
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure, arguments.norm)
        return
    from common import ratio
    from common import spread

    runs = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as folder:
        paths = {way: str(pathlib.Path(folder) / f"{way}.npz") for way in runs}
        for _ in range(arguments.rounds):
            for way in runs:
                command = [sys.executable, __file__]
                command += ["--norm", str(arguments.norm)]
                command += ["--measure", way, paths[way]]
                output = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE
                ).stdout
                runs[way].append(json.loads(output.splitlines()[-1]))
        values = {way: dict(np.load(path)) for way, path in paths.items()}
    report = {
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "norm": arguments.norm,
        "tol": TOL,
    }
    for name in runs["ours"][0]:
        milliseconds = {
            way: [run[name]["milliseconds"] for run in runs[way]]
            for way in runs
        }
        apart = np.abs(values["ours"][name] - values["theirs"][name])
        report[name] = {
            "steps": {way: runs[way][0][name]["steps"] for way in runs},
            "milliseconds": {w: spread(milliseconds[w]) for w in runs},
            "time_ours_to_theirs": ratio(
                milliseconds["ours"], milliseconds["theirs"]
            ),
            "largest_difference": float(apart.max()),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
