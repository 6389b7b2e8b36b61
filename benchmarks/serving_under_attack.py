"""What one client takes from eight others of a server.

    python benchmarks/serving_under_attack.py

Starts `keras-smoothing serve` with a small convnet for Fashion-MNIST. Eight
clients ask for certificates of single images, each again as soon as it is
answered. Beside them, a process attacks in turns:

- "unfinished": 130 connections that send a part of a body and no more, renewed
  when the server closes them;
- "brackets": 8 connections that send `[],[],...` without pause, 16 MiB, or as
  much of it as the server takes;

each from the address of the others, and from another one. "none" is without an
attack, before and after. "cpu" is a process that connects to nobody and takes
as much of the processor as the costliest attack of its round: on a machine with
few cores, what an attacker computes is taken from the server too.

Prints JSON: latency of the eight in milliseconds, their errors by status, the
attacker's requests by status and its share of a core, the server's resident
memory; and the ratio of p99 to that without an attack, median, smallest and
largest of the rounds.
"""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from attacker import ATTACKS
from common import SIGMA
from common import network
from common import spread
from serving import ask
from serving import payloads
from serving import resident_mib
from serving import served

import keras_smoothing as ks

CLIENTS = 8
ADDRESSES = ("127.0.0.1", "127.0.0.2")


def phase(process, address, bodies, seconds, attack=None):
    """Figures of the eight beside another process, or none."""
    other = None
    if attack:
        name, *settings = map(str, attack)
        file = pathlib.Path(__file__).with_name("attacker.py")
        other = subprocess.Popen(
            [sys.executable, file, name, str(seconds + 2), *settings],
            stdout=subprocess.PIPE,
            text=True,
        )
        other.stdout.readline()
        time.sleep(1)
    latencies, errors = asyncio.run(ask(address, bodies, CLIENTS, seconds))
    figures = {
        "requests": len(latencies),
        **(
            {
                f"p{q}_ms": round(1000 * np.percentile(latencies, q), 1)
                for q in (50, 95, 99)
            }
            if latencies
            else {}
        ),
        "errors": errors,
        "resident_mib": resident_mib(process),
    }
    if other:
        figures["attacker"] = json.loads(other.communicate()[0])
    return figures


def one_round(process, address, bodies, seconds):
    def measure(*attack):
        return phase(process, address, bodies, seconds, attack)

    figures = {"none": measure()}
    for name in ATTACKS:
        for source in ADDRESSES:
            figures[f"{name} from {source}"] = measure(name, address, source)
    core = max(f["attacker"]["core"] for f in list(figures.values())[1:])
    figures["cpu"] = measure("cpu", core)
    figures["none again"] = measure()
    return figures


def ratios(rounds):
    """p99 in units of that without an attack, by the rounds."""
    found = collections.defaultdict(list)
    for figures in rounds:
        none = np.mean(
            [figures[name]["p99_ms"] for name in ("none", "none again")]
        )
        for name, values in figures.items():
            found[name].append(values.get("p99_ms", np.inf) / none)
    return {name: spread(values) for name, values in found.items()}


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20, help="of a phase")
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    x, _ = ks.datasets.load("fashion_mnist", "test[:256]")
    keras.utils.set_random_seed(0)
    model = ks.SmoothedModel(network(), ks.noise.Gaussian(SIGMA))
    bodies = payloads(x)
    with served(model, arguments.n) as (process, address):
        asyncio.run(ask(address, bodies, CLIENTS, 2))  # Caches.
        rounds = [
            one_round(process, address, bodies, arguments.seconds)
            for _ in range(arguments.rounds)
        ]
    report = {
        "n": arguments.n,
        "seconds": arguments.seconds,
        "cores": os.cpu_count(),
        "ratio_of_p99": ratios(rounds),
        "rounds": rounds,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
