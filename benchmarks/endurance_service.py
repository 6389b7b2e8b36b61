"""The part of `endurance.py` that has a service: attacked, and killed.

A server answers eight clients with a memory, is killed (-9) while they wait,
and starts again with the same memory. By turns it is left in peace, attacked in
the ways of `attacker.py`, from the address of the clients and from another, or
has no disk left. Clients ask about new points and, in one of three requests,
about one that they were told of before. At the end every answer that they got
is held against the memory.
"""

import asyncio
import collections
import contextlib
import itertools
import pathlib
import random
import subprocess
import sys
import time

import httpx2 as httpx
import keras
import numpy as np
from attacker import ATTACKS
from common import contradictions
from common import spread
from serving import resident_mib
from serving import served

CLIENTS = 8
ADDRESSES = ("127.0.0.1", "127.0.0.2")
SECONDS = (10, 25)  # Until a server is killed.


class Clients:
    """Eight that ask the servers of a memory, and note what they are told."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)
        self.told = []  # Of a point: class, radius.
        self.errors = collections.Counter()
        self.resident = []  # MiB of each server at its end.

    async def ask(self, address, seconds, process):
        """Latencies until the server is killed, which happens here."""
        latencies = []
        ends = time.perf_counter() + seconds
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def one():
                while process.poll() is None:
                    x = self._point()
                    began = time.perf_counter()
                    try:
                        response = await client.post(
                            "/certify", json={"instances": [x.tolist()]}
                        )
                        response.raise_for_status()
                    except httpx.HTTPStatusError as error:
                        self.errors[error.response.status_code] += 1
                        await asyncio.sleep(0.1)
                        continue
                    except httpx.TransportError:
                        self.errors["killed"] += 1
                        return
                    latencies.append(time.perf_counter() - began)
                    (answer,) = response.json()["predictions"]
                    self.told.append((x, answer["class"], answer["radius"]))

            async def kill():
                await asyncio.sleep(ends - time.perf_counter())
                self.resident.append(resident_mib(process))
                process.kill()

            await asyncio.gather(kill(), *(one() for _ in range(CLIENTS)))
        return latencies

    def _point(self):
        if self.told and self._rng.random() < 1 / 3:
            return self.told[self._rng.integers(len(self.told))][0]
        return self._rng.uniform(-8, 8, 2).astype("float32")


@contextlib.contextmanager
def attacker(name, seconds, address, source):
    """The other process, while it attacks."""
    file = pathlib.Path(__file__).with_name("attacker.py")
    process = subprocess.Popen(
        [sys.executable, file, name, str(seconds), address, source],
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def network():
    base = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    base.layers[0].set_weights(
        [np.array([[1, -1, 0], [0, 0, 1]], "float32"), np.zeros(3, "float32")]
    )
    return base


def held_against_memory(told, path):
    """What became of all that clients were told."""
    import keras_smoothing as ks

    with ks.CertificationMemory(path) as memory:
        x = np.array([point for point, *_ in told], "float32")
        lost = sum(
            promise is None
            or promise.prediction != label
            or promise.radius < radius
            for promise, (_, label, radius) in zip(
                memory.look_up(x), told, strict=True
            )
            if label is not None  # It abstained.
        )
        return {
            "answers": len(told),
            "promises": len(memory),
            "queries": memory.num_queries,
            "lost": lost,
            "wrong": contradictions(memory),
        }


def service(folder, ballast, seconds):
    """Figures of servers that live one after the other for so many seconds."""
    import keras_smoothing as ks

    path = folder / "service.sqlite"
    options = ["--memory", str(path), "--n0", "50"]
    options += ["--max-examples-per-minute", "0"]  # All have one address.
    model = ks.SmoothedModel(network(), ks.noise.Gaussian(0.25))
    turns = itertools.cycle(
        [None, *itertools.product(ATTACKS, ADDRESSES), "full disk"]
    )
    clients, latencies = Clients(0), collections.defaultdict(list)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        turn, life = next(turns), random.uniform(*SECONDS)
        with (
            served(model, 500, *options) as (process, address),
            contextlib.ExitStack() as stack,
        ):
            if turn == "full disk":
                ballast.fill()
                stack.callback(ballast.remove)
            elif turn:
                name, source = turn
                stack.enter_context(attacker(name, life, address, source))
                turn = f"{name} from {source}"
            latencies[turn or "none"] += asyncio.run(
                clients.ask(address, life, process)
            )
    p99 = {
        turn: round(1000 * np.percentile(found, 99), 1)
        for turn, found in latencies.items()
        if found
    }
    return {
        "kills": len(clients.resident),
        "errors": dict(clients.errors),
        **held_against_memory(clients.told, path),
        "latencies": {turn: len(found) for turn, found in latencies.items()},
        "p99_ms": p99,
        "resident_mib": spread(clients.resident),
    }
