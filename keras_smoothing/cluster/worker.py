import os
import pickle

from keras_smoothing import backend


class Worker:
    """A process that runs a function on windows of examples. A Ray actor.

    Args:
        num_threads: int, of the operations; or None for as many as there are
            cores.
        has_gpus: bool. Ray shows a worker its own, but all of them to one that
            has none.
    """

    def __init__(self, num_threads, has_gpus):
        if not has_gpus:
            # TensorFlow looks for them later, and would take their memory.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if num_threads is not None:
            backend.set_num_threads(num_threads)
        self._function = None

    def load(self, pickled):
        """Loads the function: bytes."""
        self._function = pickle.loads(pickled)

    def run(self, task):
        """What the function returns for a task, a tuple of its arguments."""
        return self._function(*task)
