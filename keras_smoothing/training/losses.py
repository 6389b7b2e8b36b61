"""Helpers for the objectives: passes of the base model, losses of a batch.

`log_p` stands for float32 tensors of log-probabilities, shape `(copies, batch,
classes)`, as returned by `log_probabilities`. For masked classes they are
`LOG_ZERO`.
"""

import keras
import numpy as np
from keras import ops

from keras_smoothing.base_model import output_spec
from keras_smoothing.sampling import LOG_ZERO
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.sampling import returns_probabilities


def training_pass(model, copies, num_copies):
    """Passes all copies of a batch through the base model, in training mode.

    The copies form one batch, from which BatchNormalization takes its
    statistics.

    Args:
        model: `SmoothedModel`.
        copies: tensor, shape `(num_copies * batch, ...)`, copy by copy.
        num_copies: int.

    Returns:
        log_p: float32 tensor, shape `(num_copies, batch, classes)`.
        outputs: tensor, shape `(batch, classes)`, for the first copy.
    """
    outputs = model.base_model(copies, training=True)
    if getattr(outputs, "_keras_mask", None) is not None:
        raise ValueError(
            "Expected a base model whose outputs have no Keras mask, which "
            f"{model.objective} would lose; GaussianAugmentation keeps it. "
            f"Received: {model.base_model!r}"
        )
    outputs = ops.reshape(outputs, (num_copies, -1, outputs.shape[-1]))
    return log_probabilities(outputs, takes_logits(model)), outputs[0]


def compiled_loss(model, x, y, log_p, sample_weight):
    """The compiled loss, averaged over copies, plus the layers' own losses.

    Args:
        model: `SmoothedModel`.
        x: tensor, the batch.
        y: tensor, its labels.
        log_p: the predictions for the copies.
        sample_weight: tensor or None.

    Returns:
        scalar tensor, in the dtype of the loss.
    """
    # In Keras's cross-entropy of one-hot labels, 0 times infinity gives NaN. In
    # every precision that a loss may have, -1e4 is finite, and its exp is 0.
    log_p = ops.where(log_p <= LOG_ZERO, -1e4, log_p)
    # Log-probabilities are logits. Keras's losses find the logits of a softmax:
    # the gradient does not vanish where the probability rounds to 0.
    copies = [log_p[k] for k in range(log_p.shape[0])]
    if not takes_logits(model):
        copies = [keras.activations.softmax(copy) for copy in copies]
    losses = [
        model.compute_loss(x, y, copy, sample_weight, training=True)
        for copy in copies
    ]
    return sum(losses) / len(losses)


def batch_loss(model, values, sample_weight):
    """Losses of examples, weighted and reduced like the compiled loss.

    Args:
        model: `SmoothedModel`.
        values: float32 tensor, shape `(batch,)`.
        sample_weight: tensor or None.

    Returns:
        float32 scalar tensor.
    """
    reduction = "sum_over_batch_size"
    if model.loss is not None:
        reduction = getattr(_single_loss(model), "reduction", reduction)
    loss = _Values("batch_loss", reduction, dtype="float32")
    return loss(values, values, sample_weight)


class _Values(keras.losses.Loss):
    """Applies Keras's reduction to losses already computed."""

    def call(self, y_true, y_pred):
        return y_pred


def label_probabilities(y, num_classes):
    """Labels as float32 class probabilities.

    Args:
        y: tensor, class numbers of shape `(batch,)` or `(batch, 1)`, or
            probabilities such as one-hot labels.
        num_classes: int.

    Returns:
        float32 tensor, shape `(batch, num_classes)`.

    Raises:
        ValueError: for labels of another shape.
    """
    shape = None if y is None else tuple(y.shape)
    if shape is not None and shape[1:] == (num_classes,):
        return ops.cast(y, "float32")
    if shape is not None and shape[1:] in ((), (1,)):
        return ops.one_hot(
            ops.cast(ops.reshape(y, (-1,)), "int32"),
            num_classes,
            dtype="float32",
        )
    raise ValueError(
        f"Expected labels of shape (batch,) or (batch, {num_classes}). "
        f"Received: labels of shape {shape}"
    )


def log_mean(log_p):
    """Logarithm of the mean of the probabilities over copies."""
    return ops.logsumexp(log_p, axis=0) - float(np.log(log_p.shape[0]))


def divergence(log_p, log_q):
    """Kullback-Leibler divergence KL(p || q) over the last axis."""
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def takes_logits(model):
    """Whether the compiled loss expects logits rather than probabilities.

    A loss without `from_logits` expects probabilities, as Keras's own do.
    """
    return bool(getattr(_single_loss(model), "from_logits", False))


def check_outputs(model):
    """Raises unless the base model returns what the compiled loss expects.

    If the input has a fixed shape, this checks the outputs for a few random
    inputs.

    Args:
        model: `SmoothedModel`, built and compiled.

    Raises:
        ValueError: if the outputs (logits or probabilities) do not match.
    """
    # Regressors have no classifier; in binary models it is another model.
    if getattr(model, "classifier", None) is not model.base_model:
        raise ValueError(
            "Expected a base model of several outputs, one for each class, for "
            f"{model.objective}. Received: that of a {type(model).__name__}, "
            "binary or of other answers, which GaussianAugmentation trains"
        )
    from_logits = takes_logits(model)
    shape = getattr(model.base_model, "input_shape", None)
    if shape is None:  # For a subclassed model, Keras knows it once built.
        shape = (model.get_build_config() or {}).get("input_shape", (None,))
    if len(shape) > 1:
        outputs = output_spec(model.base_model, shape[1:])
        if len(outputs.shape) != 2:
            raise ValueError(
                "Expected a base model of one class for each example, for "
                f"{model.objective}. Received: outputs of shape "
                f"{outputs.shape}, which GaussianAugmentation trains"
            )
    if None in shape[1:] or len(shape) == 1:
        return
    if returns_probabilities(model.base_model, shape[1:]) == from_logits:
        expected = "logits" if from_logits else "probabilities"
        raise ValueError(
            f"Expected a base model that returns {expected}, which the "
            f"compiled loss takes, for {model.objective}. Received: "
            f"loss={_single_loss(model)!r}, of which "
            f"from_logits={from_logits}, and outputs that are no {expected}"
        )


def _single_loss(model):
    losses = [
        loss for loss in keras.tree.flatten(model.loss) if loss is not None
    ]
    if len(losses) != 1:
        raise ValueError(
            "Expected one loss in `compile`, such as "
            "SparseCategoricalCrossentropy(from_logits=True), for "
            f"{model.objective}. Received: loss={model.loss!r}"
        )
    return losses[0]
