"""Votes from the base model's outputs on noisy copies of an example.

Outputs have the shape `(..., classes)`. An output votes for no class if it is
NaN, or if it should be probabilities and is not: its row is all zeros.
"""

import numpy as np
from keras import ops

# The sum of a bfloat16 softmax may be off by a hundredth.
_TOLERANCE = 0.05


def hard(outputs):
    """A vote for the class of the largest output: one-hot, int32."""
    valid = ops.logical_not(ops.any(ops.isnan(outputs), axis=-1))
    return _one_hot(ops.argmax(outputs, axis=-1), valid, outputs.shape[-1])


def sampled(outputs, tickets):
    """A vote for a class sampled from the probabilities: one-hot, int32.

    Args:
        outputs: tensor, probabilities.
        tickets: float tensor in [0, 1), broadcastable with `(...)`, uniform.
    """
    outputs = ops.cast(outputs, "float32")
    ends = ops.cumsum(outputs, axis=-1)
    ticket = ops.expand_dims(tickets, -1) * ends[..., -1:]
    labels = ops.sum(ops.cast(ends[..., :-1] <= ticket, "int32"), axis=-1)
    return _one_hot(labels, is_distribution(outputs), outputs.shape[-1])


def soft(outputs):
    """The probabilities themselves, float32."""
    outputs = ops.cast(outputs, "float32")
    valid = ops.expand_dims(is_distribution(outputs), -1)
    total = ops.sum(outputs, axis=-1, keepdims=True)
    return ops.where(valid, outputs / ops.where(valid, total, 1.0), 0.0)


def is_distribution(outputs):
    """Whether outputs are probabilities: bool tensor, shape `(...)`."""
    error = ops.abs(ops.sum(ops.cast(outputs, "float32"), axis=-1) - 1)
    return ops.logical_and(ops.all(outputs >= 0, axis=-1), error <= _TOLERANCE)


def _one_hot(labels, valid, classes):
    # Class number `classes` is out of range and gives a row of zeros.
    labels = ops.where(valid, labels, classes)
    return ops.one_hot(labels, classes, dtype="int32")


# Stands for the logarithm of 0: below all others, but finite. So 0 times it is
# 0, and differences are not NaN, in values and in gradients.
LOG_ZERO = -1e30


def log_probabilities(outputs, from_logits):
    """Log-probabilities from the outputs of a classifier.

    Args:
        outputs: tensor, shape `(..., classes)`.
        from_logits: bool, whether they are logits rather than probabilities.

    Returns:
        float32 tensor of that shape. It is finite: a class masked by the logit
        -inf gets `LOG_ZERO`, without a gradient.
    """
    outputs = ops.cast(outputs, "float32")
    if from_logits:
        log_p = ops.log_softmax(outputs)
        return ops.where(log_p < LOG_ZERO, LOG_ZERO, log_p)
    # Not smaller, so that the gradient stays finite even under a steep function
    # of the logarithm.
    return ops.log(ops.maximum(outputs, 1e-30))


def returns_probabilities(model, shape):
    """Whether a classifier's outputs for a few random inputs are probabilities.

    Args:
        model: Keras model from `(batch, ...)` to `(batch, classes)`.
        shape: tuple of ints, the shape of an example.
    """
    probes = np.random.default_rng(0).normal(size=(8, *shape))
    outputs = model(ops.convert_to_tensor(probes, "float32"), training=False)
    return bool(ops.all(is_distribution(outputs)))
