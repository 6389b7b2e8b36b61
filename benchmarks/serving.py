"""How much of the model's speed is left when it is asked over HTTP.

    python benchmarks/serving.py

Trains a small convnet on Fashion-MNIST for one epoch, measures direct calls of
`certify` on full batches in this process, then starts `keras-smoothing serve`
and asks it for certificates of single test images: by 1, 8 and 64 clients, each
of which asks again as soon as it is answered. Prints JSON: requests per second,
latency in milliseconds, errors (anything but an answer), examples in a batch,
and the server's resident memory at the start and the end of each phase.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import httpx2 as httpx
import keras
import numpy as np
from common import SIGMA
from common import network
from common import spread
from prometheus_client.parser import text_string_to_metric_families

import keras_smoothing as ks


def trained():
    x, y = ks.datasets.load("fashion_mnist", "train")
    model = ks.SmoothedModel(network(), ks.noise.Gaussian(SIGMA))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, epochs=1, batch_size=128, verbose=0)
    return model


def direct(model, x, n, rounds):
    """Examples per second of `certify` on windows of 16, in this process."""
    rates = []
    for i in range(rounds + 1):
        began = time.perf_counter()
        model.certify(x, n=n, check_independence=i == 0, verbose=0)
        rates.append(len(x) / (time.perf_counter() - began))
    return spread(rates[1:])  # The first compiles.


@contextlib.contextmanager
def served(model, n, *options):
    """A server of a model, while it is needed: its process and address."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        command = [sys.executable, "-m", "keras_smoothing.cli", "serve", path]
        process = subprocess.Popen(
            [*command, "--port", "0", "--n", str(n), *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            line = process.stdout.readline()
            yield process, re.match(r"serving at (\S+)", line)[1]
        finally:
            process.terminate()
            process.wait()


def payloads(x):
    """A request for each example."""
    return [
        json.dumps({"instances": x[i : i + 1].tolist()}).encode()
        for i in range(len(x))
    ]


async def ask(address, bodies, clients, seconds):
    """Latencies of answers, and numbers of errors by their status."""
    latencies, errors = [], collections.Counter()
    limits = httpx.Limits(max_connections=clients)
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(
        base_url=address, limits=limits, headers=headers, timeout=120
    ) as client:
        ends = time.perf_counter() + seconds

        async def one(i):
            while (began := time.perf_counter()) < ends:
                try:
                    response = await client.post(
                        "/certify", content=bodies[i % len(bodies)]
                    )
                    response.raise_for_status()
                    latencies.append(time.perf_counter() - began)
                except httpx.HTTPStatusError as error:
                    errors[str(error.response.status_code)] += 1
                except httpx.TransportError as error:
                    errors[type(error).__name__] += 1
                i += clients

        await asyncio.gather(*(one(i) for i in range(clients)))
    return latencies, errors


def batches(address):
    """Batches of the server so far, and the examples in them."""
    page = httpx.get(f"{address}/metrics").text
    figures = {
        sample.name: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    name = "keras_smoothing_batch_examples"
    return np.array([figures[f"{name}_count"], figures[f"{name}_sum"]])


def resident_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return round(int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) / 1024, 1)


def phase(process, address, bodies, clients, seconds):
    asyncio.run(ask(address, bodies, clients, 2))  # Connections, caches.
    before, memory = batches(address), resident_mib(process)
    began = time.perf_counter()
    latencies, errors = asyncio.run(ask(address, bodies, clients, seconds))
    took = time.perf_counter() - began
    number, examples = batches(address) - before
    p50, p95, p99 = 1000 * np.percentile(latencies, (50, 95, 99))
    return {
        "requests": len(latencies),
        "requests_per_second": round(len(latencies) / took, 2),
        "latency_ms": {
            "p50": round(p50, 1),
            "p95": round(p95, 1),
            "p99": round(p99, 1),
        },
        "errors": errors.total(),
        "examples_per_batch": round(examples / number, 2),
        "resident_mib": {"start": memory, "end": resident_mib(process)},
    }


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    x, _ = ks.datasets.load("fashion_mnist", "test[:256]")
    model = trained()
    report = {
        "n": arguments.n,
        "seconds": arguments.seconds,
        "cores": os.cpu_count(),
        "direct_examples_per_second": {
            "batches of 16": direct(
                model, x[:64], arguments.n, arguments.rounds
            ),
            "one at a time": direct(model, x[:1], arguments.n, 50),
        },
        "clients": {},
    }
    bodies = payloads(x)
    with served(model, arguments.n) as (process, address):
        for clients in arguments.clients:
            report["clients"][clients] = phase(
                process, address, bodies, clients, arguments.seconds
            )
    report["exit_code"] = process.returncode
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
