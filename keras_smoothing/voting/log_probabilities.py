from keras import ops


def log_probabilities(outputs, from_logits):
    """Logarithms of the probabilities that outputs of a classifier stand for.

    Args:
        outputs: tensor, shape `(..., classes)`.
        from_logits: bool, whether they are logits, rather than probabilities.

    Returns:
        float32 tensor of that shape.
    """
    outputs = ops.cast(outputs, "float32")
    if from_logits:
        return ops.log_softmax(outputs)
    # Not smaller, so that the gradient is finite also where what is made of the
    # logarithm is steep.
    return ops.log(ops.maximum(outputs, 1e-30))
