"""Processes that make promises into one memory, and are killed at random."""

import pathlib
import subprocess
import sys
import textwrap

import numpy as np

MODEL = "a fingerprint"
CLASSES = 3

# The package itself imports TensorFlow, which the memory does without. So four
# processes are forked from one that has imported no more than they need.
SCRIPT = """
import os, pathlib, random, signal, sys, time, traceback, types

package, address, folder, rounds = sys.argv[1:]
stub = types.ModuleType("keras_smoothing")
stub.__path__ = [package]
sys.modules["keras_smoothing"] = stub

import numpy as np
from keras_smoothing.memory import CertificationMemory

if "://" in address:
    import psycopg  # So that no child spends its life on it.


def work(seed):
    rng = np.random.default_rng(seed)
    log = os.open(
        f"{folder}/{seed}", os.O_WRONLY | os.O_CREAT | os.O_APPEND
    )
    with CertificationMemory(address) as memory:
        memory.bind("a fingerprint", "l2", (2,))
        while os.getppid() == parent:  # Nor longer, should it die itself.
            x = rng.integers(0, 160, (2, 2)).astype("float32") / 16
            memory.look_up(x)
            alpha = memory.spend(2, 0.001)
            answers = memory.promise(
                x, rng.integers(0, 3, 2), 0.5 * rng.random(2), 1.0, alpha
            )
            # Only what is in the log in full counts as returned.
            os.write(log, b"".join(
                b"%.9g %.9g %d %.17g\\n" % (*point, *answer[:2])
                for point, answer in zip(x.tolist(), answers)
            ))


def size(logs):
    return sum(log.stat().st_size for log in logs if log.exists())


parent = os.getpid()
for number in range(int(rounds)):
    children = []
    for i in range(4):
        child = os.fork()
        if not child:
            try:
                work(4 * number + i)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        children.append(child)
    logs = [pathlib.Path(f"{folder}/{4 * number + i}") for i in range(4)]
    while children:
        # The first rounds end while the memory is made; the others once some
        # more answers have come, however busy the processor is.
        more = 0 if number < 3 else random.randrange(600)
        wanted = size(logs) + more
        give_up = time.monotonic() + 5
        while time.monotonic() < give_up and size(logs) < wanted:
            time.sleep(0.002)
        child = children.pop(random.randrange(len(children)))
        time.sleep(random.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "a process ended by itself"
"""


def promise_and_be_killed(address, folder, rounds):
    """Four processes at a time share a memory until each is killed.

    Args:
        address: of the memory.
        folder: `pathlib.Path` of an empty folder.
        rounds: int.

    Returns:
        points: float32 array, shape `(answers, 2)`.
        answers: float64 array, shape `(answers, 2)`: class and radius of all
            that was returned.
    """
    package = pathlib.Path(__file__).parents[1] / "keras_smoothing"
    subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(SCRIPT), str(package)),
            *(str(address), str(folder), str(rounds)),
        ],
        check=True,
    )
    lines = [
        line.split()
        for path in sorted(folder.iterdir())
        for line in path.read_text().split("\n")[:-1]
    ]
    values = np.array(lines, np.float64).reshape(-1, 4)
    return values[:, :2].astype("float32"), values[:, 2:]


def check_promises(memory, points, answers):
    """That nothing returned is lost, and that no two promises contradict."""
    assert memory.num_queries >= len(answers)
    assert abs(memory.alpha_spent / (0.001 * memory.num_queries) - 1) < 1e-9
    kept = list(memory)
    for found, (prediction, radius) in zip(
        memory.look_up(points), answers, strict=True
    ):
        assert found.prediction == prediction
        assert found.radius >= radius
    centers = np.array([x for x, _ in kept], np.float64)
    radii = np.array([promise.radius for _, promise in kept])
    classes = np.array([promise.prediction for _, promise in kept])
    gaps = np.linalg.norm(centers[:, np.newaxis] - centers, axis=2)
    gaps -= radii[:, np.newaxis] + radii
    assert gaps[classes[:, np.newaxis] != classes].min() > -1e-12
    # Where they did contradict, so that something was to be decided.
    assert np.sum(np.abs(gaps) < 1e-12) > 10


SPEND = """
import sys, types

package, address = sys.argv[1:]
stub = types.ModuleType("keras_smoothing")
stub.__path__ = [package]
sys.modules["keras_smoothing"] = stub

from keras_smoothing.memory import CertificationMemory

with CertificationMemory(address) as memory:
    print("ready", flush=True)
    sys.stdin.readline()  # Until all are.
    for i in range(40):
        for alpha in memory.spend(1 + i % 3, 0.01):
            print(repr(float(alpha)))
"""


def spend_together(address, processes):
    """Processes that spend the alpha of one memory at the same time.

    Args:
        address: of the memory, which is bound.
        processes: int.

    Returns:
        list of floats, all that they were given.
    """
    package = pathlib.Path(__file__).parents[1] / "keras_smoothing"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SPEND, str(package), str(address)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    texts = [process.communicate()[0] for process in running]
    assert not any(process.returncode for process in running)
    return [float(line) for text in texts for line in text.split()]
