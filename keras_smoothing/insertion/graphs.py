"""Models as graphs of layers."""

import keras


def is_graph(layer):
    """Whether a layer is a built Sequential or functional model.

    One whose class has a `call` of its own is something else.
    """
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    definer = next(k for k in type(layer).__mro__ if "call" in vars(k))
    return definer.__module__.partition(".")[0] == "keras"


def rebuild(model, inputs, call):
    """Runs through a graph, call by call, and makes a new model of it.

    Args:
        model: Sequential or functional model.
        inputs: `keras.Input`, or a structure of such, as the model's inputs.
        call: function from a layer of the model and the arguments it is
            called with to its outputs.

    Returns:
        `keras.Model` from the inputs to the outputs of the calls.
    """
    # A Sequential has no graph to run through; this gives it one.
    return keras.models.clone_model(
        keras.Model(*_ends(model), name=model.name),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call,
    )


def new_inputs(model):
    """Inputs as those of a model, in the same structure."""
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name),
        _ends(model)[0],
    )


def tensors(structure):
    """The symbolic tensors in a structure, as a list."""
    flat = keras.tree.flatten(structure)
    return [x for x in flat if isinstance(x, keras.KerasTensor)]


def _ends(model):
    """Inputs and outputs of a model, each in its structure."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output
