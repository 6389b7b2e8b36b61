"""Outputs of base models, and the model that gives the answer."""

import keras


def output_spec(model, shape):
    """The outputs of a model for examples of a shape, as Keras infers them.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.

    Returns:
        `keras.KerasTensor`, or a structure of them.
    """
    examples = keras.KerasTensor((None, *shape), dtype="float32")
    return only_one(model.compute_output_spec(examples))


def only_one(outputs):
    """Unwraps a list of one output, as a call of the model does."""
    if isinstance(outputs, list | tuple) and len(outputs) == 1:
        return outputs[0]
    return outputs


def answer_model(model, shape, packing=None, output=None):
    """A model in the form that draws need: from one array to one answer.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example; for a model with
            several inputs, the shape of a row.
        packing: `Packing` of the inputs into rows; or None for a model with one
            input.
        output: str, the name of the output that is the answer; or None for a
            model with one output.

    Returns:
        Keras model that shares the weights; the model itself if it has one
        input and one output.

    Raises:
        ValueError: if the output does not exist, or has no name.
    """
    own = (getattr(model, "inputs", None) or [None])[0]
    if packing is None and own is not None:
        # With the name of the model's input, dicts still match it.
        inputs = keras.Input(shape, dtype=own.dtype, name=own.name)
    else:
        inputs = keras.Input(shape, dtype="float32")
    taken = inputs if packing is None else packing.unpack(inputs)
    spec = only_one(model.compute_output_spec(taken))
    names = _names(model, spec)
    if output is None and len(names) > 1:
        raise ValueError(
            "Expected `output`, the name of the one that is the answer, for a "
            f"base model with several outputs. Received: outputs {names}"
        )
    if output is not None and names.count(output) != 1:
        raise ValueError(
            "Invalid value for argument `output`. Expected a name that one of "
            f"the base model's outputs has alone, {names}. Received: output="
            f"{output!r}"
        )
    if packing is None and isinstance(spec, keras.KerasTensor):
        return model
    outputs = model(taken)
    if isinstance(outputs, dict):
        outputs = outputs[output or names[0]]
    elif isinstance(outputs, list | tuple):
        outputs = outputs[names.index(output) if output else 0]
    return keras.Model(inputs, outputs)


def _names(model, spec):
    """The names of a model's outputs, as a list."""
    if isinstance(spec, dict):
        return list(spec)
    names = getattr(model, "output_names", None)
    if names is None and isinstance(spec, list | tuple):
        raise ValueError(
            "Expected a base model whose outputs have names: a functional one, "
            f"or one that returns a dict. Received: outputs {spec}"
        )
    return list(names or [])  # Keras 3.12 has a list type of its own.


def advice_without_scores(output):
    """The end of an error about outputs that are not class scores; or "".

    Args:
        output: `keras.KerasTensor`, or a structure of them.
    """
    shape = getattr(output, "shape", None)
    if shape is None:
        return ""
    if not keras.backend.is_float_dtype(output.dtype):
        return (
            " Integers are numbers of classes: leave out the argmax, so that "
            "a score of each class comes out."
        )
    if len(shape) == 1:
        return (
            " For one number of each example, that of class 1, end the model "
            "in keras.layers.Reshape((1,)): (batch, 1) is a binary one."
        )
    return ""


def num_classes(base_model, shape):
    """The number of classes of a model for examples of a shape.

    Raises:
        ValueError: unless the model's output is `(batch, classes)`.
    """
    output = output_spec(base_model, shape)
    output_shape = getattr(output, "shape", ())
    if len(output_shape) != 2 or (output_shape[1] or 0) < 2:
        raise ValueError(
            "Expected a base model with output shape (batch, classes), at "
            f"least 2 classes. Received: output {output}. "
            "`ks.SmoothedSegmentation` is for a class of each pixel."
            + advice_without_scores(output)
        )
    return output_shape[1]


def numbers_shape(model, shape):
    """The shape of one answer of a model that returns real numbers.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.

    Returns:
        tuple of ints.

    Raises:
        ValueError: unless the model's output is `(batch, ...)`, with sizes
            that are known for such examples, and of floating type.
    """
    output = output_spec(model, shape)
    answer = tuple(getattr(output, "shape", ()))[1:]
    known = None in shape or all(answer)  # No size is None or 0.
    if not (answer and known and keras.backend.is_float_dtype(output.dtype)):
        raise ValueError(
            "Expected a base model with one output (batch, ...) of real "
            f"numbers, of a known shape and floating type. Received: output "
            f"{output}"
        )
    return answer


def boxes_shape(model, shape):
    """The shape of one answer of a detector: a fixed number of boxes.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.

    Returns:
        tuple, `(boxes, 4)`.

    Raises:
        ValueError: unless the model's output is `(batch, boxes, 4)`, of
            floating type.
    """
    answer = numbers_shape(model, shape)
    if len(answer) != 2 or answer[1] != 4:
        raise ValueError(
            "Expected a base model with output shape (batch, boxes, 4), as of "
            "ks.layers.SortedBoxes: edges x1, y1, x2, y2. Received: output "
            f"shape {(None, *answer)}"
        )
    return answer
