"""What reads a SavedModel. TensorFlow and NumPy only."""

import tensorflow as tf


class SavedModel:
    """A graph that was saved, and its weights.

    Args:
        path: path of its folder.

    Attributes:
        signatures: the names of its signatures.
    """

    def __init__(self, path):
        self._loaded = tf.saved_model.load(str(path))
        self.signatures = frozenset(self._loaded.signatures)

    def __call__(self, signature, **inputs):
        """What a signature finds: a dict of arrays, or bytes for text.

        Args:
            signature: str.
            **inputs: numbers or arrays of the right types.
        """
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._loaded.signatures[signature](**tensors)
        return {name: value.numpy() for name, value in outputs.items()}

    def collection(self, name):
        """Yields the arrays of variables that were saved under a name."""
        for variable in getattr(self._loaded, name):
            yield variable.numpy()
