import math

import keras
import numpy as np

from keras_smoothing.answers.output_spec import output_spec


def is_binary(model, shape):
    """Whether a model returns one number for each example.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.
    """
    output = output_spec(model, shape)
    return tuple(getattr(output, "shape", ()))[1:] == (1,)


def two_classes(model, from_logits=None, threshold=0.5):
    """A binary classifier as one of two classes, by the same weights.

    Args:
        model: Keras model from `(batch, ...)` to `(batch, 1)`, the probability
            of class 1 or its logit.
        from_logits: bool, whether it is a logit; None to tell by the last
            activation.
        threshold: float in (0, 1): at larger probabilities the answer is
            class 1.

    Returns:
        Keras model to `(batch, 2)`: logits where it returns logits, and
        probabilities where it returns those and the threshold is 1/2.

    Raises:
        ValueError: if the last activation does not tell.
    """
    if from_logits is None:
        from_logits = _returns_logits(model)
    if from_logits:
        bias, slope = [math.log(threshold / (1 - threshold)), 0.0], [0.0, 1.0]
    else:
        bias, slope = [2 * threshold, 0.0], [-1.0, 1.0]
    # Fixed weights of a layer that all that follows knows.
    classes = keras.layers.Dense(
        2, trainable=False, dtype="float32", name="two_classes"
    )
    if getattr(model, "inputs", None):
        answers = keras.Model(model.inputs[0], classes(model.outputs[0]))
    else:
        answers = keras.Sequential([model, classes])
        classes.build((None, 1))
    classes.set_weights([np.array([slope]), np.array(bias)])
    return answers


def _returns_logits(model):
    last, index = model, 0
    while getattr(last, "outputs", None):
        last, _, index = last.outputs[index]._keras_history
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Activation | keras.layers.Dense):
        if activation is keras.activations.sigmoid:
            return False
        if activation is keras.activations.linear:
            return True
    raise ValueError(
        "Expected `from_logits`, for a base model with one output whose last "
        "layer is no Dense or Activation with a sigmoid or without activation. "
        f"Received: from_logits=None and a last layer {last}"
    )
