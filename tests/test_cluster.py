"""Certification on Ray: the same certificates, whatever dies."""

import os
import pathlib
import pickle
import secrets
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from cluster_layers import DiesOnce
from cluster_layers import DiesWhenLoaded
from cluster_layers import FillsMemoryOnce
from cluster_layers import NanAboveOne
from cluster_layers import NotesGPUs
from cluster_layers import OneThread
from cluster_layers import RefusesLarge
from cluster_layers import memory
from conftest import columns_without_time
from conftest import smoothed

import keras_smoothing as ks
from keras_smoothing.certificates import Claim
from keras_smoothing.certify import Classification
from keras_smoothing.certify.on_cluster import FarTask
from keras_smoothing.sampling import VoteSampler

ray = pytest.importorskip("ray", reason="needs the extra `cluster`")
SETTINGS = dict(n0=20, n=200, alpha=0.01, seed=0, verbose=0)


def network(*layers):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, activation="relu")
    return smoothed(
        keras.Sequential(
            [keras.Input((4,)), *layers, hidden, keras.layers.Dense(3)]
        )
    )


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)).astype("float32")
    return x, rng.integers(3, size=100)


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, which this process is connected to.

    One says that it has two GPUs.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 3,
            "num_gpus": 2,
            "include_dashboard": False,
        },
    )
    cluster.lost = cluster.add_node(num_cpus=3)
    folder = str(pathlib.Path(__file__).parent)
    ray.init(
        cluster.address,
        log_to_driver=False,
        logging_level="error",
        runtime_env={
            "env_vars": {"PYTHONPATH": folder},
            "worker_process_setup_hook": "cluster_setup.watch",
        },
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def assert_same_log(folder, model, examples, cluster, **settings):
    """One process and a cluster write the same log."""
    results = [
        model.certify(
            *examples,
            **SETTINGS | settings,
            log=folder / f"{name}.tsv",
            **where,
        )
        for name, where in (("one", {}), ("many", {"cluster": cluster}))
    ]
    one, many = (
        columns_without_time(folder / f"{name}.tsv") for name in ("one", "many")
    )
    assert one == many
    one, many = (
        (folder / f"{name}.tsv.json").read_bytes() for name in ("one", "many")
    )
    assert one == many
    return results


@pytest.mark.slow
def test_one_worker(nodes, examples, tmp_path):
    stopping = ks.AdaptiveSampling([0.0, 0.1], max_n=500)
    settings = dict(n=None, stopping=stopping, family_wise=True)
    one, _ = assert_same_log(
        tmp_path, network(), examples, ks.cluster.Ray(num_workers=1), **settings
    )
    assert len(set(one.num_samples)) > 1


@pytest.mark.slow
def test_a_function_is_called_by_one_thread(nodes, examples, tmp_path):
    model = smoothed(ks.from_function(OneThread(), 2, "half", (4,)))
    x, y = examples
    cluster = ks.cluster.Ray(num_workers=2)
    one, many = assert_same_log(tmp_path, model, (x[:40], y[:40] % 2), cluster)
    np.testing.assert_array_equal(many.counts, one.counts)


@pytest.mark.slow
def test_three_workers_with_a_memory(nodes, examples, tmp_path):
    model = network()
    x, y = examples
    x[50:] = x[:50] + 1e-4  # Most of them lie in a ball of the first half.
    search = ks.DataDependentSigma(0.1, 0.5, steps=3, num_draws=8)
    results = []
    for name, cluster in (("one", None), ("many", ks.cluster.Ray("auto", 3))):
        log = tmp_path / f"{name}.tsv"
        with ks.CertificationMemory() as memory:
            # What one process began, many go on with.
            for part, where in ((24, None), (100, cluster)):
                results.append(
                    model.certify(
                        x[:part],
                        y[:part],
                        **SETTINGS,
                        sigma=search,
                        memory=memory,
                        cluster=where,
                        log=log,
                    )
                )
    one, many = (tmp_path / "one.tsv", tmp_path / "many.tsv")
    assert columns_without_time(one) == columns_without_time(many)
    _, one, _, many = results
    assert 0 < (one.num_samples == 0).sum() < 60
    np.testing.assert_array_equal(one.radius, many.radius)


@pytest.mark.slow
def test_ray_data(nodes, examples):
    import ray.data

    x, y = examples
    rows = [{"image": x[i], "label": y[i]} for i in range(40)]

    def slowest_first(
        batch,
    ):  # Blocks end in any order, but are read in theirs.
        time.sleep(
            0.2 * (batch["label"].size and batch["image"][0, 0] == x[0, 0])
        )
        return batch

    dataset = ray.data.from_items(rows, override_num_blocks=5)
    dataset = dataset.map_batches(slowest_first)
    given = {"x_key": "image", "y_key": "label"}
    one = network().certify(dataset, **given, **SETTINGS, family_wise=True)
    other = network().certify(x[:40], y[:40], **SETTINGS, family_wise=True)
    np.testing.assert_array_equal(one.digest, other.digest)
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.radius, other.radius)


def test_another_model_than_was_sent():
    model = network()
    sampler = VoteSampler(model.base_model, model.noise)
    claim = Claim(model.noise, 0.01, ks.FixedSampling(200))
    task = FarTask(Classification(sampler, claim, model="other"))
    sent = ray.cloudpickle.dumps(task)
    with pytest.raises(ValueError, match="arrive as it was sent"):
        pickle.loads(sent)


@pytest.mark.slow
def test_a_worker_is_killed_and_a_node_is_lost(nodes, examples, tmp_path):
    x, y = examples

    class Batches(keras.utils.PyDataset):
        """Read a few ahead: at the 25th, others are certified already."""

        num_batches = 50

        def __getitem__(self, i):
            if i == 25 and nodes.lost is not None:
                nodes.remove_node(nodes.lost)
                nodes.lost = None
            return x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2]

    marker = tmp_path / "died"
    model = network(DiesOnce(str(marker)))
    settings = SETTINGS | {"batch_size": 2}
    # A node has room for one of these.
    cluster = ks.cluster.Ray(
        num_workers=2, resources_per_worker={"CPU": 2, "memory": 1e6}
    )
    many, one = (
        model.certify(Batches(), **settings, log=tmp_path / name, **where)
        for name, where in (("many", {"cluster": cluster}), ("one", {}))
    )
    assert marker.exists() and nodes.lost is None
    assert columns_without_time(tmp_path / "many") == columns_without_time(
        tmp_path / "one"
    )
    np.testing.assert_array_equal(many.counts, one.counts)


ON_A_CLUSTER = """
import pickle
import sys
import cluster_layers  # Which registers its layers.
import keras_smoothing as ks

with open("run", "rb") as file:
    model, *examples, settings = pickle.load(file)
address = sys.argv[1] if len(sys.argv) > 1 else None
cluster = ks.cluster.Ray(address, num_workers=1)
model.certify(*examples, **settings, log="many", cluster=cluster)
"""


def assert_same_log_elsewhere(folder, model, examples, *address, **environment):
    """One process, and one with a cluster that is not `nodes`."""
    (folder / "run").write_bytes(pickle.dumps((model, *examples, SETTINGS)))
    subprocess.run(
        [sys.executable, "-c", ON_A_CLUSTER, *address],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            **environment,
        },
        check=True,
    )
    model.certify(*examples, **SETTINGS, log=folder / "one")
    one, many = (
        columns_without_time(folder / name) for name in ("one", "many")
    )
    assert one == many


@pytest.mark.slow
def test_a_worker_runs_out_of_memory(examples, tmp_path):
    if memory("MemAvailable") < 13 * 2**30:
        pytest.skip("less than 13 GiB are free")
    marker = tmp_path / "filled"
    total = memory("MemTotal")
    limit = total - memory("MemAvailable") + 6 * 2**30
    assert_same_log_elsewhere(
        tmp_path,
        network(FillsMemoryOnce(str(marker))),
        examples,
        RAY_memory_usage_threshold=str(limit / total),
        RAY_memory_monitor_refresh_ms="100",
    )
    assert marker.read_text() == ""  # It did not survive.


@pytest.mark.slow
def test_the_door_for_clients(examples, tmp_path):
    """A cluster that asks for a token, by `ray://`."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    path = os.pathsep.join(sys.path)
    command = [pathlib.Path(sys.executable).with_name("ray"), "start", "--head"]
    command += ["--block", "--disable-usage-stats", f"--port={ports[0]}"]
    command += [f"--ray-client-server-port={ports[1]}", "--num-cpus=1"]
    server = subprocess.Popen(
        [*command, "--include-dashboard=false"],
        env={**os.environ, **token, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"127.0.0.1:{ports[1]}"
        wait_for(address)
        assert_same_log_elsewhere(
            tmp_path, network(), examples, f"ray://{address}", **token
        )
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address):
    host, port = address.split(":")
    for _ in range(600):
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"nothing listens at {address}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "resources, seen",
    [({"GPU": 1}, ["0 0", "1 1"]), ({"CPU": 1}, [" all"] * 2)],
)
def test_a_worker_sees_its_own_gpus(nodes, examples, tmp_path, resources, seen):
    cluster = ks.cluster.Ray(num_workers=2, resources_per_worker=resources)
    model = network(NotesGPUs(str(tmp_path)))
    model.certify(*examples, **SETTINGS, cluster=cluster)
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == seen


@pytest.mark.slow
@pytest.mark.parametrize("deadly", [False, True])
def test_an_example_that_fails_three_times(nodes, examples, tmp_path, deadly):
    x, y = np.array(examples[0]), examples[1]
    x[40] = 1_000
    named = (
        "examples 32 to 47"
        if deadly
        else "(?s)example 40, of which .*too large"
    )
    log = tmp_path / "run.tsv"
    with pytest.raises(RuntimeError, match=named):
        network(RefusesLarge(deadly)).certify(
            x, y, **SETTINGS, log=log, cluster=ks.cluster.Ray(num_workers=1)
        )
    with pytest.warns(UserWarning, match="has rows of 32 of 100 examples"):
        assert len(ks.read_log(log)) == 32


@pytest.mark.slow
def test_warnings_and_errors_of_examples_come_home(nodes, examples, tmp_path):
    x, y = examples
    log = tmp_path / "run.tsv"

    class Batches(keras.utils.PyDataset):
        num_batches = 4

        def __getitem__(self, i):
            return (
                x[:16] if i < 3 else np.full((16, 4), np.nan, "float32")
            ), y[:16]

    # At its end, since a relu makes zeros of NaN on some processors.
    base = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), NanAboveOne()]
    )
    model = smoothed(base)
    with (
        pytest.warns(UserWarning, match=r"returned NaN .* example\(s\) \[ *\d"),
        pytest.raises(ValueError, match="NaN or infinity in example 48"),
    ):
        model.certify(
            Batches(),
            **SETTINGS,
            log=log,
            cluster=ks.cluster.Ray(num_workers=1),
        )
    assert len(ks.read_log(log)) == 48


@pytest.mark.slow
def test_code_that_no_worker_can_import(nodes, examples, tmp_path):
    @keras.saving.register_keras_serializable(package="tests")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    # A class of a function comes along, as one of a script does.
    assert_same_log(
        tmp_path,
        network(Doubled(), keras.layers.Lambda(lambda x: x + 1)),
        examples,
        ks.cluster.Ray(nodes.address, num_workers=1),
    )


def test_a_model_that_workers_cannot_load(nodes, examples):
    class Unheard(keras.layers.Layer):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="custom code in a module"):
        network(Unheard()).certify(
            *examples, **SETTINGS, cluster=ks.cluster.Ray(num_workers=1)
        )


@pytest.mark.slow
def test_workers_that_die_while_they_load(nodes, examples):
    with pytest.raises(RuntimeError, match="workers that live to load the mod"):
        network(DiesWhenLoaded()).certify(
            *examples, **SETTINGS, cluster=ks.cluster.Ray(num_workers=1)
        )


def test_a_model_that_cannot_be_shipped(nodes, examples):
    class Closed(keras.layers.Layer):
        def __init__(self, something):
            super().__init__()

        def call(self, x):
            return x

    with pytest.raises(ValueError, match="can be shipped"):
        network(Closed(object())).certify(
            *examples, **SETTINGS, cluster=ks.cluster.Ray(num_workers=1)
        )


def test_resources_that_no_node_has(nodes, examples):
    cluster = ks.cluster.Ray(resources_per_worker={"CPU": 1, "TPU": 4})
    with pytest.raises(ValueError, match="resources that a node .* 'TPU': 4"):
        network().certify(*examples, **SETTINGS, cluster=cluster)


def test_another_address_than_the_one_connected_to(
    nodes, examples, monkeypatch
):
    monkeypatch.setattr("keras_smoothing.cluster.ray._greet", lambda place: 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        cluster = ks.cluster.Ray(f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ValueError, match="this process is connected to"):
            network().certify(*examples, **SETTINGS, cluster=cluster)


@pytest.mark.parametrize("door", ["", "ray://"])
def test_an_address_where_something_else_listens(examples, door, monkeypatch):
    monkeypatch.setattr("keras_smoothing.cluster.ray._TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{door}127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match="no gRPC is spoken there"):
            network().certify(
                *examples, **SETTINGS, cluster=ks.cluster.Ray(address)
            )


def test_a_cluster_that_lets_nobody_in(examples, monkeypatch):
    def refuse(*args, **settings):
        raise ConnectionError("ray client connection timeout")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConnectionError, match="timeout.*RAY_AUTH_MODE=token"):
        network().certify(*examples, **SETTINGS, cluster=ks.cluster.Ray("auto"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_answers(examples, address, tmp_path):
    log = tmp_path / "run.tsv"
    with pytest.raises(ConnectionError, match="Expected a Ray cluster at"):
        network().certify(
            *examples, **SETTINGS, log=log, cluster=ks.cluster.Ray(address)
        )
    assert not log.exists()
    done = network().certify(*examples, **SETTINGS, log=log)
    again = network().certify(
        *examples, **SETTINGS, log=log, cluster=ks.cluster.Ray(address)
    )
    np.testing.assert_array_equal(again.radius, done.radius)


@pytest.mark.slow
def test_the_command_starts_ray_for_itself(digits_file, tmp_path):
    def run(name, *options):
        command = [sys.executable, "-m", "keras_smoothing.cli", "certify"]
        command += [str(digits_file), "--dataset", "digits", "--n", "200"]
        command += ["--split", "test[:20]", "--seed", "0", "--verbose", "0"]
        command += ["--log", str(tmp_path / name), "--alpha", "0.01"]
        subprocess.run([*command, *options], check=True)
        return columns_without_time(tmp_path / name)

    assert run("one") == run("many", "--workers", "1")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_workers": 0}, "num_workers=0"),
        ({"address": 6379}, "address=6379"),
        ({"resources_per_worker": {"CPU": -1}}, ">= 0"),
        ({"resources_per_worker": {"CPU": 0}}, "of something"),
        ({"resources_per_worker": 2}, "resources_per_worker=2"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.cluster.Ray(**arguments)


def test_something_else_than_a_cluster(examples):
    with pytest.raises(ValueError, match="ks.cluster.Ray()"):
        network().certify(*examples, **SETTINGS, cluster="auto")
