"""What reads a SavedModel. TensorFlow and NumPy only."""

import tensorflow as tf

from keras_smoothing.backend.forks import check_not_forked


class SavedModel:
    """A graph that was saved, and its weights.

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
        """What a signature finds: a dict of arrays, or bytes for text.

        Args:
            signature: str.
            **inputs: numbers or arrays of the right types.
        """
        check_not_forked()
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._loaded.signatures[signature](**tensors)
        return {name: value.numpy() for name, value in outputs.items()}

    def collection(self, name):
        """Yields the arrays of variables that were saved under a name."""
        for variable in getattr(self._loaded, name):
            yield variable.numpy()
