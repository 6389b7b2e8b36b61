import math

import keras
import numpy as np

from keras_smoothing.base_model.outputs import advice_without_scores
from keras_smoothing.base_model.outputs import output_spec

# Layers that apply their `activation` to their outputs.
_LAST = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def is_binary(model, shape):
    """Whether a model returns one number for each example.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.
    """
    output = output_spec(model, shape)
    return tuple(getattr(output, "shape", ()))[1:] == (1,)


def two_classes(model, shape, from_logits=None, threshold=0.5, labels=None):
    """Converts a binary classifier to one with two outputs, on shared weights.

    Args:
        model: Keras model from `(batch, ...)` to `(batch, 1)`, the probability
            of class 1 or its logit; or to `(batch, *components, 1)`.
        shape: tuple of ints or None, the shape of an example.
        from_logits: bool, whether the output is a logit; None to infer it from
            the last activation.
        threshold: float in (0, 1): at larger probabilities the answer is
            class 1.
        labels: int, for a model to `(batch, labels)`, each number of which is
            such an answer; else None.

    Returns:
        Keras model to `(batch, 2)`, `(batch, *components, 2)` or `(batch,
        labels, 2)`. It returns logits if `model` does, and probabilities if
        `model` does and the threshold is 1/2.

    Raises:
        ValueError: if `from_logits` cannot be inferred.
    """
    if from_logits is None:
        from_logits = _returns_logits(model)
    if from_logits:
        bias, slope = [math.log(threshold / (1 - threshold)), 0.0], [0.0, 1.0]
    else:
        bias, slope = [2 * threshold, 0.0], [-1.0, 1.0]
    # A standard layer with fixed weights, which all later code supports.
    settings = dict(trainable=False, dtype="float32", name="two_classes")
    if labels is not None:
        classes = keras.layers.EinsumDense(
            "bl,c->blc", output_shape=(labels, 2), bias_axes="c", **settings
        )
        kernel = np.array(slope)
    else:
        classes = keras.layers.Dense(2, **settings)
        kernel = np.array([slope])
    if getattr(model, "inputs", None):
        answers = keras.Model(model.inputs[0], classes(model.outputs[0]))
    else:
        answers = keras.Sequential([model, classes])
        answers.build((None, *shape))
    classes.set_weights([kernel, np.array(bias)])
    return answers


def last_activation(model):
    """The activation of a model's outputs; None if it cannot be inferred.

    Args:
        model: Keras model.

    Returns:
        function, such as `keras.activations.sigmoid`, and the last layer.
    """
    last, index = model, 0
    while True:
        if getattr(last, "outputs", None):
            last, _, index = last.outputs[index]._keras_history
        elif type(last) is keras.layers.Identity:
            last, _, index = last.input._keras_history
        else:
            break
    if isinstance(last, keras.layers.Softmax):
        return keras.activations.softmax, last
    return (last.activation if isinstance(last, _LAST) else None), last


def _returns_logits(model):
    activation, last = last_activation(model)
    if activation is keras.activations.sigmoid:
        return False
    if activation is keras.activations.linear:
        return True
    outputs = getattr(model, "outputs", None) or [None]
    raise ValueError(
        "Expected `from_logits`, for a binary base model whose last layer is "
        "no Dense, Activation or convolution with a sigmoid or without "
        f"activation. Received: from_logits=None and a last layer {last}."
        + advice_without_scores(outputs[0])
    )
