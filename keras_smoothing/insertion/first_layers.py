"""Models as graphs of layers."""

import keras

from keras_smoothing.certificates.utils import warn_caller
from keras_smoothing.noise.parts import OneInput
from keras_smoothing.noise.parts import ValidSteps


def is_graph(layer):
    """Whether a layer is a built Sequential or functional model.

    A model whose class defines its own `call` is not.
    """
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    definer = next(k for k in type(layer).__mro__ if "call" in vars(k))
    return definer.__module__.partition(".")[0] == "keras"


def rebuild(model, inputs, call):
    """Replays the calls of a model's graph into a new model.

    Args:
        model: Sequential or functional model.
        inputs: `keras.Input`, or a structure of them, like the model's inputs.
        call: function that takes a layer of the model and the arguments of its
            call, and returns the outputs.

    Returns:
        `keras.Model` from the inputs to the outputs of the calls.
    """
    # A Sequential has no graph to replay; this gives it one.
    return keras.models.clone_model(
        keras.Model(*_ends(model), name=model.name),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call,
    )


def new_inputs(model):
    """New inputs like those of a model, in the same structure."""
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name),
        _ends(model)[0],
    )


def tensors(structure):
    """The symbolic tensors in a structure, as a list."""
    flat = keras.tree.flatten(structure)
    return [x for x in flat if isinstance(x, keras.KerasTensor)]


def _ends(model):
    """Inputs and outputs of a model, in their structures."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def on_valid_steps(noise, model):
    """The noise of a smoothed model, restricted to steps it does not mask.

    Args:
        noise: `keras_smoothing.noise.Noise`.
        model: Keras model that gets the noise at its input.

    Returns:
        `Noise`: if the model begins with `Masking`, a `ValidSteps`, or a
        `OneInput` that contains one; else `noise` itself.

    Raises:
        ValueError: as in `mask_value`.
    """
    name = None
    if isinstance(noise, OneInput):
        name, own = noise.input, noise.noise
    else:
        own = noise
    if isinstance(own, ValidSteps):  # From another model.
        own = own.noise
    value = mask_value(model, name)
    if value is not None:
        own = ValidSteps(own, value)
    return own if name is None else OneInput(own, name, noise.shape)


def mask_value(model, name=None):
    """The value of padding, from the `Masking` layers at an input of a model.

    It warns of layers that noise at that input would break: `Masking` after
    other layers, and `Embedding`.

    Args:
        model: Keras model.
        name: str, the name of one of several inputs; or None.

    Returns:
        float, or None for a model without such layers.

    Raises:
        ValueError: if several `Masking` layers have different values.
    """
    kinds = (keras.layers.Masking, keras.layers.Embedding)
    if not any(isinstance(layer, kinds) for layer in _all_layers(model)):
        return None
    names = [x.name for x in getattr(model, "inputs", None) or []]
    first, behind = _by_place(model, names.index(name) if name else 0)
    if any(isinstance(layer, keras.layers.Embedding) for layer in first):
        warn_caller(
            "The base model looks up its input in an Embedding. Noise turns "
            "ids into others. It belongs behind the Embedding: smooth the "
            "model that takes its outputs, or train with a GaussianNoiseAlways "
            "there. A certificate is then about embedded vectors, and says "
            "nothing of other ids.",
        )
    if any(isinstance(layer, keras.layers.Masking) for layer in behind):
        warn_caller(
            "The base model has a Masking layer behind others, or inside a "
            "`call` of its own. What it compares has noise on it, so it finds "
            "no padding. Put it first, where it says which steps get no noise.",
        )
    values = {
        float(layer.mask_value)
        for layer in first
        if isinstance(layer, keras.layers.Masking)
    }
    if len(values) > 1:
        raise ValueError(
            "Expected Masking layers with one `mask_value` at the input, which "
            f"says what padding is. Received: {sorted(values)}"
        )
    return values.pop() if values else None


def _by_place(model, index):
    """Two lists: the layers that take an input directly, and later layers."""
    if isinstance(model, keras.Sequential):
        return _in_sequence(model.layers)
    if not is_graph(model):
        return [model], list(_all_layers(model))[1:]
    first, behind = [], []
    inputs = new_inputs(model)
    own = [tensors(inputs)[index]]
    reached = list(own)

    def call(layer, *args, **kwargs):
        taken = tensors((args, kwargs))
        places = [i for i, x in enumerate(taken) if _is_in(x, own)]
        if places:
            more, rest = _by_place(layer, places[0])
            first.extend(more)
            behind.extend(rest)
        elif any(_is_in(x, reached) for x in taken):
            behind.extend(_all_layers(layer))
        outputs = layer(*args, **kwargs)
        if places and isinstance(layer, keras.layers.Identity):
            own.append(outputs)
        if any(_is_in(x, reached) for x in taken):
            reached.extend(tensors(outputs))
        return outputs

    rebuild(model, inputs, call)
    return first, behind


def _in_sequence(layers):
    """Like `_by_place`, for a sequence of layers, built or not."""
    first, behind = [], []
    for i, layer in enumerate(layers):
        first, behind = _by_place(layer, 0)
        if not isinstance(layer, keras.layers.Identity):
            for other in layers[i + 1 :]:
                behind += _all_layers(other)
            break
    return first, behind


def _is_in(x, some):
    return any(x is y for y in some)


def _all_layers(layer):
    yield layer
    for inner in getattr(layer, "layers", []):
        if isinstance(inner, keras.layers.Layer):
            yield from _all_layers(inner)
