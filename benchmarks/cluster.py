"""What workers of a Ray cluster on this machine cost and gain.

    python benchmarks/cluster.py

Prints JSON. Images of Fashion-MNIST are certified by this process, by one
worker with all cores, and by one worker for each core, in turns; then by one
worker that is killed in the middle. Times are those of whole calls of
`certify`, with Ray and its workers started in each; `start` is that of a call
with next to nothing to do.
"""

import argparse
import json
import os
import signal
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import psutil
from common import SIGMA
from common import network
from common import ratio
from common import spread

import keras_smoothing as ks


def kill_a_worker(after):
    """Kills a worker of this process's Ray, so many seconds after it began."""
    while True:
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("ray::Worker.run"):
                time.sleep(after)
                process.send_signal(signal.SIGKILL)
                return
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kill-after", type=float, default=20, help="seconds")
    arguments = parser.parse_args()
    x, y = ks.datasets.load("fashion_mnist", f"test[:{arguments.examples}]")
    model = ks.SmoothedModel(network(), ks.noise.Gaussian(SIGMA))
    cores = os.cpu_count()
    one = ks.cluster.Ray(num_workers=1, resources_per_worker={"CPU": cores})
    many = ks.cluster.Ray(num_workers=cores)

    def seconds(cluster, x=x, y=y, n=arguments.n):
        start = time.perf_counter()
        model.certify(x, y, n=n, seed=0, verbose=0, cluster=cluster)
        return time.perf_counter() - start

    clusters = {"no_cluster": None, "one_worker": one, "worker_a_core": many}
    times = {name: [] for name in clusters}
    starts = {name: [] for name in clusters}
    seconds(None, x[:16], y[:16], 100)  # Compiled once, as by the workers.
    for _ in range(arguments.rounds):
        for name, cluster in clusters.items():
            starts[name].append(seconds(cluster, x[:16], y[:16], 100))
            times[name].append(seconds(cluster))
    net = {
        name: [t - s for t, s in zip(times[name], starts[name], strict=True)]
        for name in clusters
    }
    killer = threading.Thread(target=kill_a_worker, args=[arguments.kill_after])
    killer.start()
    killed = seconds(one)
    killer.join()
    plain = times["no_cluster"]
    report = {
        "cores": cores,
        "examples": len(x),
        "n": arguments.n,
        "seconds": {name: spread(t) for name, t in times.items()},
        "start": {name: spread(t) for name, t in starts.items()},
        "examples_per_second": {
            name: spread([len(x) / t for t in net[name]]) for name in clusters
        },
        "one_worker_to_none": ratio(times["one_worker"], plain),
        "one_worker_to_none_without_start": ratio(
            net["one_worker"], net["no_cluster"]
        ),
        "worker_a_core_to_none_without_start": ratio(
            net["worker_a_core"], net["no_cluster"]
        ),
        "seconds_with_a_kill": round(killed, 1),
        "seconds_lost_by_a_kill": round(
            killed - spread(times["one_worker"])["median"], 1
        ),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
