import keras

from keras_smoothing.answers.output_spec import only_one


def answer_model(model, shape, packing=None, output=None):
    """A model as draws go through it: from one array to one answer.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example: of a model with
            several inputs that of a row.
        packing: `Packing` of the inputs into rows; or None for a model with one
            input.
        output: str, the name of the output that is the answer; or None for a
            model with one.

    Returns:
        Keras model that shares the weights: the model itself, where it has one
        input and one output.

    Raises:
        ValueError: for an output that is not there, or has no name.
    """
    own = (getattr(model, "inputs", None) or [None])[0]
    if packing is None and own is not None:
        # Under the name of the model's input, dicts still find it.
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
    """The names of a model's outputs, a list."""
    if isinstance(spec, dict):
        return list(spec)
    names = getattr(model, "output_names", None)
    if names is None and isinstance(spec, list | tuple):
        raise ValueError(
            "Expected a base model whose outputs have names: a functional one, "
            f"or one that returns a dict. Received: outputs {spec}"
        )
    return list(names or [])  # Keras 3.12 has a list of its own.
