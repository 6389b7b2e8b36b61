"""What reads a SavedModel. TensorFlow and NumPy only."""

import tensorflow as tf


def load(path):
    """The signatures of a SavedModel.

    Args:
        path: path of its folder.

    Returns:
        function from the name of a signature and its inputs by name, numbers
        or arrays of the right types, to a dict of arrays.
    """
    # Kept, since it owns the variables.
    loaded = tf.saved_model.load(str(path))

    def call(signature, **inputs):
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = loaded.signatures[signature](**tensors)
        return {name: value.numpy() for name, value in outputs.items()}

    return call
