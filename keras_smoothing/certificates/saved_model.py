"""Reader of a SavedModel. TensorFlow and NumPy only."""

import os

import tensorflow as tf

_has_lost_threads = False


def check_not_forked():
    """Raises RuntimeError if TensorFlow would wait forever.

    A forked process has none of its parent's threads. TensorFlow starts its
    threads once, when it is first used, and in the child it waits for them.
    """
    if _has_lost_threads:
        raise RuntimeError(
            "Expected a process that started by itself, as by "
            'multiprocessing.get_context("spawn"), or one that was forked '
            "before TensorFlow was used. Received: one that was forked after "
            "it, in which TensorFlow would wait for ever."
        )


def _note_lost_threads():
    global _has_lost_threads
    _has_lost_threads = _has_lost_threads or _is_in_use()


def _is_in_use():
    """Whether TensorFlow has threads: their number can then not be set."""
    threading = tf.config.threading
    number = threading.get_inter_op_parallelism_threads()
    try:
        threading.set_inter_op_parallelism_threads(number + 1)
    except RuntimeError:
        return True
    threading.set_inter_op_parallelism_threads(number)
    return False


if hasattr(os, "register_at_fork"):  # Windows does not fork.
    os.register_at_fork(after_in_child=_note_lost_threads)


class SavedModel:
    """A saved graph and its weights.

    Args:
        path: path of its folder.

    Attributes:
        signatures: the names of its signatures.
    """

    def __init__(self, path):
        check_not_forked()
        self._loaded = tf.saved_model.load(str(path))
        self.signatures = frozenset(self._loaded.signatures)

    def __call__(self, signature, **inputs):
        """Calls a signature; returns a dict of arrays, or bytes for text.

        Args:
            signature: str.
            **inputs: numbers or arrays of the right types.
        """
        check_not_forked()
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._loaded.signatures[signature](**tensors)
        return {name: value.numpy() for name, value in outputs.items()}

    def collection(self, name):
        """Yields the arrays of the variables saved under a name."""
        for variable in getattr(self._loaded, name):
            yield variable.numpy()
