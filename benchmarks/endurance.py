"""Whether anything is lost when processes are killed and the disk is full.

    python benchmarks/endurance.py --minutes 30 --folder /mnt/small

Four processes certify images with one memory in a file, each into a log of its
own, and are killed (-9) at random; each starts again and resumes its log. With
`--folder` on a small file system (a tmpfs of 64 MiB), the rest of it is filled
from time to time, for some seconds. At the end all runs are finished, and every
row of every log is held against the memory. Prints JSON:

- kills, fillings of the disk, starts, and errors that processes named (a full
  disk, a locked memory);
- answers: rows of all logs; promises: balls of the memory;
- lost: rows whose class and radius the memory does not answer any more;
- wrong: pairs of balls of different classes that meet;
- votes_lost: rows without votes, of images that were drawn for;
- differences: rows of a run alone, killed as often, that differ from those of
  the same run undisturbed in any column but `time`.

Two fifths of the time go to a service with a memory, which `endurance_service`
attacks and kills.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from common import contradictions
from common import print_json
from endurance_service import service

PROCESSES = 4

# Forked from one process that has imported TensorFlow and not used it.
WORKERS = """
import os, pathlib, signal, sys, traceback
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import keras
import numpy as np
import keras_smoothing as ks


def work(number, folder, count):
    rng = np.random.default_rng(number)
    base = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    base.layers[0].set_weights(
        [np.array([[1, -1, 0], [0, 0, 1]], "float32"), np.zeros(3, "float32")]
    )
    model = ks.SmoothedModel(base, ks.noise.Gaussian(0.25))
    x = rng.uniform(-8, 8, (count, 2)).astype("float32")
    y = rng.integers(0, 3, count)
    with ks.CertificationMemory(folder / "memory.sqlite") as memory:
        model.certify(
            x, y, n0=50, n=500, seed=number, memory=memory, verbose=0,
            log=folder / f"{number}.tsv", check_independence=False,
        )


for line in sys.stdin:
    number, folder, count = line.split()
    child = os.fork()
    if not child:
        try:
            work(int(number), pathlib.Path(folder), int(count))
            code = 0
        except BaseException as error:
            traceback.print_exc()
            print(type(error).__name__, file=sys.stderr, flush=True)
            code = 1
        os._exit(code)
    print(child, flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for them.
"""


class Pool:
    """Starts processes, one for each number, without waiting for imports."""

    def __init__(self, errors):
        self._parent = subprocess.Popen(
            [sys.executable, "-c", WORKERS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.starts = 0

    def start(self, number, folder, count):
        """The number of a new process."""
        self._parent.stdin.write(f"{number} {folder} {count}\n")
        self._parent.stdin.flush()
        self.starts += 1
        return int(self._parent.stdout.readline())

    def close(self):
        self._parent.stdin.close()
        self._parent.wait()


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def finish(pool, number, folder, count):
    """Lets a run end, however often an error stops it."""
    for _ in range(20):
        process = pool.start(number, folder, count)
        while is_running(process):
            time.sleep(0.05)
        if rows(folder / f"{number}.tsv") == count:
            return
    raise RuntimeError(f"Run {number} does not end.")


def rows(log):
    """Whole lines of a log below its heading."""
    if not log.exists():
        return 0
    return max(log.read_bytes().count(b"\n") - 1, 0)


class Ballast:
    """A file that takes what is left of a small file system."""

    def __init__(self, folder):
        self._path = folder / "ballast"
        self.fillings = 0

    def fill(self):
        free = shutil.disk_usage(self._path.parent).free
        if free > 2**28:  # Not a disk to be filled.
            return
        try:
            with open(self._path, "wb") as file:
                for _ in range(free // 2**12 + 1):
                    file.write(bytes(2**12))
                    file.flush()
        except OSError:
            self.fillings += 1

    def remove(self):
        self._path.unlink(missing_ok=True)


def disturb(pool, folder, numbers, count, seconds, ballast):
    """Kills, fills and starts again; returns the number of kills."""
    running, kills = {}, 0
    ends, full_until = time.monotonic() + seconds, 0.0
    while time.monotonic() < ends:
        for number in numbers:
            if number in running and is_running(running[number]):
                continue
            if rows(folder / f"{number}.tsv") < count:
                running[number] = pool.start(number, folder, count)
        time.sleep(random.uniform(0.2, 1.5))
        alive = [number for number in running if is_running(running[number])]
        if not alive:
            if all(rows(folder / f"{n}.tsv") == count for n in numbers):
                break
            continue
        os.kill(running.pop(random.choice(alive)), signal.SIGKILL)
        kills += 1
        if ballast and time.monotonic() > full_until + 10:
            ballast.fill()
            full_until = time.monotonic() + 3
        elif ballast and time.monotonic() > full_until:
            ballast.remove()
    if ballast:
        ballast.remove()
    for process in running.values():
        if is_running(process):
            os.kill(process, signal.SIGKILL)
            kills += 1
    return kills


def held_against_memory(folder, numbers):
    """What became of all rows of all logs."""
    import keras_smoothing as ks

    found = collections.Counter()
    with ks.CertificationMemory(folder / "memory.sqlite") as memory:
        own = {x.tobytes() for x, _ in memory}
        found["promises"], found["queries"] = len(own), memory.num_queries
        found["wrong"] = contradictions(memory)
        for number in numbers:
            result = ks.read_log(folder / f"{number}.tsv")
            rng = np.random.default_rng(number)
            x = rng.uniform(-8, 8, (len(result), 2)).astype("float32")
            found["answers"] += len(result)
            for i, promise in enumerate(memory.look_up(x)):
                if result.radius[i] and (
                    promise is None
                    or promise.prediction != result.prediction[i]
                    or promise.radius < result.promises["radius"][i]
                ):
                    found["lost"] += 1
                # A ball around the image itself: this run drew for it.
                drawn = x[i].tobytes() in own
                found["votes_lost"] += drawn and not result.num_samples[i]
    names = ("answers", "promises", "queries", "lost", "wrong", "votes_lost")
    return {name: found[name] for name in names}


def without_time(log):
    table = [line.split("\t") for line in log.read_text().splitlines()]
    at = table[0].index("time")
    return [row[:at] + row[at + 1 :] for row in table]


def alone(pool, folder, count, seconds):
    """A run under its own memory that is killed, and one that is not."""
    logs, kills = [], 0
    for name in ("undisturbed", "killed"):
        place = folder / name
        place.mkdir()
        if name == "killed":
            kills = disturb(pool, place, [0], count, seconds, None)
        finish(pool, 0, place, count)
        logs.append(without_time(place / "0.tsv"))
    differ = sum(a != b for a, b in zip(*logs, strict=True))
    return {"rows": count, "kills": kills, "differences": differ}


def main(arguments):
    random.seed(arguments.seed)
    seconds = 60 * arguments.minutes
    # Not on the disk that gets full.
    errors = open(arguments.errors, "w+")
    pool = Pool(errors)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = pathlib.Path(place)
        report = {"alone": alone(pool, folder, arguments.alone, seconds / 10)}
        shared, numbers = folder / "shared", range(PROCESSES)
        shared.mkdir()
        ballast = Ballast(folder)
        kills = disturb(
            pool, shared, numbers, arguments.count, seconds / 2, ballast
        )
        for number in numbers:
            finish(pool, number, shared, arguments.count)
        errors.seek(0)
        named = collections.Counter(
            line
            for line in errors.read().splitlines()
            if line.isidentifier()  # Not what TensorFlow says.
        )
        report["shared"] = {
            "kills": kills,
            "fillings": ballast.fillings,
            "starts": pool.starts,
            "errors": dict(named),
            **held_against_memory(shared, numbers),
        }
        pool.close()
        report["service"] = service(folder, ballast, seconds * 2 / 5)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--count", type=int, default=20_000, help="images each")
    parser.add_argument("--alone", type=int, default=2_000)
    parser.add_argument("--folder", help="on a small file system")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--errors", default=os.devnull, help="their log")
    options = parser.parse_args()
    print_json(lambda: main(options))
