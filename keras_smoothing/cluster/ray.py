import contextlib
import logging
import math
import os
import socket
import sys
import urllib.parse

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.utils import Configured
from keras_smoothing.cluster.workers import Workers

# Seconds until an address counts as unreachable. Ray itself tries for minutes.
_TIMEOUT = 5.0


class Ray(Configured):
    """A Ray cluster whose workers certify windows of examples.

    Each worker is a process that loads the model once. Certificates, and the
    rows of a log, are the same as with a single process, in the order of the
    examples. If a worker or its node dies, other workers redo its windows. If a
    window fails three times, an error names its examples; the rows before it
    are kept.

    A model with custom code needs that code on the workers, in a module that
    they can import. Workers on this machine can import the same modules as this
    process. For other machines, a `runtime_env` of `ray.init` ships the module.
    Code registered with Keras may also be in a script.

    Args:
        address: str or None. None for the Ray that this process is connected
            to, or otherwise a new one on this machine for the call; "auto" for
            the cluster that this machine belongs to; "host:port" or
            "ray://host:port" for another cluster.
        num_workers: int >= 1, or None for as many as the cluster has room for.
        resources_per_worker: dict from names to numbers, as Ray counts them
            ("CPU", "GPU", "memory" in bytes, and custom resources); or None for
            {"CPU": 1}. A worker computes with as many threads as it has CPUs,
            and sees only its own GPUs.

    Raises:
        ValueError: if an argument is not as described. In `certify`: if the
            model cannot be loaded on a worker, or no node has the resources.
        ImportError: in `certify`, without the extra `cluster`.
        ConnectionError: in `certify`, if nothing answers at the address.

    Example:

    ```python
    import keras_smoothing as ks

    cluster = ks.cluster.Ray(num_workers=2)
    # model.certify(x, y, log="run.tsv", cluster=cluster)
    ```

    Reference:
    - [Moritz et al., 2018](https://arxiv.org/abs/1712.05889)
    """

    def __init__(
        self, address=None, num_workers=None, resources_per_worker=None
    ):
        if not isinstance(address, str | None):
            raise ValueError(
                "Invalid value for argument `address`. Expected a string or "
                f"None. Received: address={address!r}"
            )
        self.address = address
        if num_workers is not None:
            num_workers = checks.positive_int("num_workers", num_workers)
        self.num_workers = num_workers
        resources = resources_per_worker or {"CPU": 1}
        if not isinstance(resources, dict):
            raise ValueError(
                "Invalid value for argument `resources_per_worker`. Expected a "
                "dict from names to numbers or None. Received: "
                f"resources_per_worker={resources!r}"
            )
        for name, amount in resources.items():
            checks.nonnegative_float(f"resources_per_worker[{name!r}]", amount)
        if not any(resources.values()):
            raise ValueError(
                "Expected `resources_per_worker` of something. Received: "
                f"resources_per_worker={resources_per_worker}"
            )
        self.resources_per_worker = dict(resources)

    def get_config(self):
        return {
            "address": self.address,
            "num_workers": self.num_workers,
            "resources_per_worker": self.resources_per_worker,
        }

    @contextlib.contextmanager
    def workers(self, function):
        """A context with workers that have loaded a function.

        Args:
            function: the function that they run; picklable.

        Yields:
            `Workers`.
        """
        ray = _ray()
        with self._connection(ray):
            places = self._places(ray)
            count = self.num_workers or places
            workers = Workers(ray, function, count, self.resources_per_worker)
            try:
                yield workers
            finally:
                workers.stop()

    @contextlib.contextmanager
    def _connection(self, ray):
        if self.address not in (None, "auto"):
            _check_reachable(self.address)
        if ray.is_initialized():
            connected = ray.get_runtime_context().gcs_address
            if self.address not in (None, "auto", connected):
                raise ValueError(
                    f"Expected the address {connected} that this process is "
                    f"connected to. Received: address={self.address!r}. "
                    "`ray.shutdown()` disconnects."
                )
            yield
            return
        settings = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.address is None:
            cpus = self.resources_per_worker.get("CPU", 0)
            needed = math.ceil((self.num_workers or 1) * cpus)
            ray.init(
                address="local",
                num_cpus=max(needed, os.cpu_count()),
                include_dashboard=False,
                # Local workers can import the same modules as this process.
                runtime_env={"env_vars": {"PYTHONPATH": _import_path()}},
                **settings,
            )
        else:
            try:
                ray.init(self.address, **settings)
            except ConnectionError as error:
                raise ConnectionError(
                    "Expected a Ray cluster that lets this process in at "
                    f"address={self.address!r}. Received: {error}. One that "
                    "wants a token gets it where RAY_AUTH_MODE=token is set, "
                    "and RAY_AUTH_TOKEN or the file ~/.ray/auth_token."
                ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _places(self, ray):
        """The number of workers that all nodes together have room for."""
        wanted = {k: v for k, v in self.resources_per_worker.items() if v}
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        places = sum(
            int(min(node.get(name, 0) / v for name, v in wanted.items()))
            for node in nodes
        )
        if not places:
            raise ValueError(
                "Expected resources that a node of the cluster has. Received: "
                f"resources_per_worker={wanted}, and nodes with "
                + "; ".join(str(_of_interest(node)) for node in nodes)
            )
        return places


def _ray():
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "Certification on a cluster needs Ray. `pip install "
            "keras_smoothing[cluster]` brings it."
        ) from error
    return ray


def _import_path():
    return os.pathsep.join(os.path.abspath(folder) for folder in sys.path)


def _check_reachable(address):
    url = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
    try:
        place = url.hostname, url.port
    except ValueError:
        place = None, None
    if None in place:
        raise ValueError(
            'Expected an address like "auto", "host:6379" or '
            f'"ray://host:10001". Received: address={address!r}'
        )
    try:
        socket.create_connection(place, timeout=_TIMEOUT).close()
        _greet(url.netloc)
    except OSError as error:
        raise ConnectionError(
            f"Expected a Ray cluster at address={address!r}. Received: "
            f"{error}. `ray start --head` starts one."
        ) from error


def _greet(place):
    """Raises unless the server speaks gRPC, as both of Ray's ports do.

    Ray itself waits far too long for a silent server.
    """
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return  # Ray gets the keys from elsewhere.
    import grpc  # Imported here, since it comes with the extra.

    with grpc.insecure_channel(place) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_TIMEOUT)
        except grpc.FutureTimeoutError as error:
            raise ConnectionError("no gRPC is spoken there") from error


def _of_interest(resources):
    """The resources without Ray's internal entries."""
    return {
        name: amount
        for name, amount in resources.items()
        if not name.startswith(("node:", "memory", "object_store_memory"))
    }
