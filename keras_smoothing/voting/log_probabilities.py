import numpy as np
from keras import ops

from keras_smoothing.voting import ballots

# What stands for the logarithm of 0: below all others, and finite, so that 0
# times it is 0 and differences are numbers, in values and in gradients.
LOG_ZERO = -1e30


def log_probabilities(outputs, from_logits):
    """Logarithms of the probabilities that outputs of a classifier stand for.

    Args:
        outputs: tensor, shape `(..., classes)`.
        from_logits: bool, whether they are logits, rather than probabilities.

    Returns:
        float32 tensor of that shape, finite also where a class is masked by
        the logit -inf: `LOG_ZERO`, without a gradient.
    """
    outputs = ops.cast(outputs, "float32")
    if from_logits:
        log_p = ops.log_softmax(outputs)
        return ops.where(log_p < LOG_ZERO, LOG_ZERO, log_p)
    # Not smaller, so that the gradient is finite also where what is made of the
    # logarithm is steep.
    return ops.log(ops.maximum(outputs, 1e-30))


def returns_probabilities(model, shape):
    """Whether a classifier's outputs for a few random inputs are probabilities.

    Args:
        model: Keras model from `(batch, ...)` to `(batch, classes)`.
        shape: tuple of ints, the shape of an example.
    """
    probes = np.random.default_rng(0).normal(size=(8, *shape))
    outputs = model(ops.convert_to_tensor(probes, "float32"), training=False)
    return bool(ops.all(ballots.is_distribution(outputs)))
