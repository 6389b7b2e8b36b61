import collections
import itertools
import os
import pickle

import keras

from keras_smoothing import backend


class CustomObjects:
    """Objects registered with Keras here, to be registered on a worker.

    A worker registers the objects when it unpickles them, before it unpickles
    anything pickled after them. It imports code in a module; code in a script
    is pickled, too.

    Args:
        config: str, the configuration of a model. Only objects that it names
            are registered.
    """

    def __init__(self, config):
        registered = keras.saving.get_custom_objects()
        self._objects = {k: v for k, v in registered.items() if k in config}

    def __reduce__(self):
        return _registered, (self._objects,)


def _registered(objects):
    for name, thing in objects.items():
        package, is_registered, own_name = name.rpartition(">")
        if is_registered:
            # So that the object is also saved and compared by this name.
            keras.saving.register_keras_serializable(package, own_name)(thing)
        else:
            keras.saving.get_custom_objects()[name] = thing
    return objects


class Worker:
    """A process that runs a function on windows of examples. A Ray actor.

    Args:
        num_threads: int, threads for operations; or None for one per core.
        has_gpus: bool, whether the worker has GPUs. Ray shows a worker its own
            GPUs, but all GPUs to a worker that has none.
    """

    def __init__(self, num_threads, has_gpus):
        if not has_gpus:
            # Otherwise TensorFlow would later find them and take their memory.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if num_threads is not None:
            backend.set_num_threads(num_threads)
        self._function = None

    def load(self, pickled):
        """Loads the function from bytes."""
        self._function = pickle.loads(pickled)

    def run(self, task):
        """Runs the function on a task, a tuple of its arguments."""
        return self._function(*task)


# Number of attempts at a task, or at starting a worker.
_TRIES = 3
# Tasks that are waiting, running or finished out of order, for each worker.
_AHEAD = 4
# Seconds to wait for a cluster that provides no worker.
_PATIENCE = 300.0


class Workers:
    """Workers on a Ray cluster, and the tasks that they share.

    A worker that dies is replaced, and another worker repeats its task.

    Args:
        ray: the module, connected to a cluster.
        function: the function that they run; picklable.
        count: int >= 1, number of workers.
        resources: dict from names to numbers, the resources of each worker.

    Attributes:
        deaths: class of the errors of workers that died.

    Raises:
        ValueError: if the function cannot be pickled.
    """

    def __init__(self, ray, function, count, resources):
        self._ray = ray
        self.deaths = ray.exceptions.RayError
        self._function = ray.put(_pickled(ray, function))
        others = dict(resources)
        cpus, gpus, memory = map(
            others.pop, ("CPU", "GPU", "memory"), (0, 0, None)
        )
        self._arguments = max(1, int(cpus)) if cpus else None, gpus > 0
        self._kind = ray.remote(
            num_cpus=cpus, num_gpus=gpus, memory=memory, resources=others
        )(Worker)
        self._count = count
        self._idle = []
        # From references to the worker, and also to the number of its task.
        self._loading, self._working = {}, {}
        self._losses = 0  # Workers in a row that died before they had loaded.
        for _ in range(count):
            self._start()

    def map(self, tasks):
        """Runs tasks on whichever worker is free.

        Args:
            tasks: iterator of tuples, the arguments of the function. It is read
                only a few tasks ahead.

        Yields:
            the function's results, in the order of the tasks.

        Raises:
            Exception: the third error of a task, when it is the task's turn:
                the function's exception, or Ray's error for a worker that died.
            ValueError: if a worker cannot load the function.
            RuntimeError: if the cluster provides no worker.
        """
        tasks = enumerate(tasks)
        held, waiting, finished = {}, collections.deque(), {}
        failures = collections.Counter()
        for due in itertools.count():
            while due not in finished:
                room = _AHEAD * self._count - len(held)
                for number, task in itertools.islice(tasks, room):
                    held[number] = task
                    waiting.append(number)
                if due not in held:
                    return
                while waiting and self._idle:
                    number = waiting.popleft()
                    self._run(number, held[number])
                for number, value, error in self._await():
                    failures[number] += error is not None
                    if error is None or failures[number] == _TRIES:
                        finished[number] = value, error
                    else:
                        waiting.appendleft(number)
            value, error = finished.pop(due)
            if error is not None:
                raise error
            del held[due]
            yield value

    def stop(self):
        """Stops all workers, even while they run."""
        working = (worker for worker, _ in self._working.values())
        for worker in (*self._idle, *self._loading.values(), *working):
            self._ray.kill(worker)

    def _start(self):
        worker = self._kind.remote(*self._arguments)
        self._loading[worker.load.remote(self._function)] = worker

    def _run(self, number, task):
        worker = self._idle.pop()
        self._working[worker.run.remote(task)] = worker, number

    def _await(self):
        """Waits until some tasks end; yields their number, value and error."""
        awaited = [*self._loading, *self._working]
        timeout = None if self._working else _PATIENCE
        ended, _ = self._ray.wait(awaited, timeout=timeout)
        if not ended:
            raise RuntimeError(
                "Expected a cluster with room for a worker. Received: none in "
                f"{_PATIENCE:.0f} seconds"
            )
        for reference in ended:
            if reference in self._loading:
                self._welcome(reference, self._loading.pop(reference))
            else:
                worker, number = self._working.pop(reference)
                yield number, *self._outcome(reference, worker)

    def _outcome(self, reference, worker):
        """The value and the error of a task, one of them None."""
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            self._idle.append(worker)
            return None, error.cause or error
        except self._ray.exceptions.RayError as error:
            self._start()
            return None, error
        self._idle.append(worker)
        return value, None

    def _welcome(self, reference, worker):
        """Adds a worker that has loaded the function, or starts another."""
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = str(error.cause).strip().splitlines()[0]
            raise ValueError(
                "Expected a model that workers can load: custom code in a "
                "module that they can import, which a `runtime_env` of "
                f"`ray.init` ships to them. Received: {cause}"
            ) from error
        except self._ray.exceptions.RayError as error:
            self._losses += 1
            if self._losses == _TRIES:
                raise RuntimeError(
                    "Expected workers that live to load the model: with this "
                    "package where they are, and room for the model. Received: "
                    f"{_TRIES} that died, the last since {_reason(error)}"
                ) from error
            self._start()
        else:
            self._losses = 0
            self._idle.append(worker)


def _reason(error):
    """Why a worker died, in one line."""
    lines = str(error).strip().splitlines()
    # If the constructor raised, the last line of the traceback says why.
    return lines[-1 if "creation task" in lines[0] else 0]


def _pickled(ray, function):
    try:
        return ray.cloudpickle.dumps(function)
    except Exception as error:
        cause = str(error).strip().splitlines()[0]
        raise ValueError(
            "Expected a model that can be shipped to workers, as one that can "
            f"be saved. Received: {cause}"
        ) from error
