import typing

import keras

from keras_smoothing.insertion.first_layers import is_graph
from keras_smoothing.insertion.first_layers import new_inputs
from keras_smoothing.insertion.first_layers import rebuild
from keras_smoothing.insertion.first_layers import tensors
from keras_smoothing.layers import DeepEquilibrium


class Parts(typing.NamedTuple):
    """The parts of a model head(layer(before(x))).

    Attributes:
        before: Keras model, from the input to the input of the layer.
        layer: `DeepEquilibrium`.
        head: Keras model, from the output of the layer to the output.
    """

    before: keras.Model
    layer: DeepEquilibrium
    head: keras.Model


def split(model, name=None):
    """Splits a model at its equilibrium layer. Weights are shared.

    Args:
        model: Sequential or functional Keras model that calls the layer once,
            directly or in nested models of these types. The output must depend
            on the input only through the layer.
        name: str, the name of the layer; or None for the only one.

    Returns:
        `Parts`.

    Raises:
        ValueError: if the model has no such layer, if it has several and no
            name is given, or if it is not as described.
    """
    found = list(_equilibrium_layers(model))
    names = [layer.name for layer in found]
    if name is not None:
        found = [layer for layer in found if layer.name == name]
    if len(found) != 1:
        expected = "one DeepEquilibrium layer" if name is None else repr(name)
        raise ValueError(
            f"Expected a Sequential or functional model with {expected}"
            f"{', or the name of one' if len(names) > 1 else ''}. Received: "
            f"model {model.name!r} with equilibrium layers {names}"
        )
    return _split_at(model, found[0])


def _equilibrium_layers(model):
    if not is_graph(model):
        return
    for layer in model.layers:
        if isinstance(layer, DeepEquilibrium):
            yield layer
        yield from _equilibrium_layers(layer)


def _split_at(model, target):
    calls = []

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        if layer is target or target in _equilibrium_layers(layer):
            calls.append((layer, tensors((args, kwargs)), outputs))
        return outputs

    inputs = new_inputs(model)
    rebuilt = rebuild(model, inputs, call)
    (layer, received, output), *others = calls
    if others or len(received) != 1:
        raise ValueError(
            f"Expected a model that calls {target.name!r} once, on one tensor. "
            f"Received: model {model.name!r} with {len(calls)} calls on "
            f"{len(received)} tensors"
        )
    before = keras.Model(inputs, received[0])
    head = _between(output, rebuilt.outputs[0], model, target)
    if layer is target:
        return Parts(before, target, head)
    inner = _split_at(layer, target)
    state = new_inputs(inner.head)
    return Parts(
        keras.Model(inputs, inner.before(received[0])),
        target,
        keras.Model(state, head(inner.head(state))),
    )


def _between(start, end, model, target):
    try:
        return keras.Model(start, end)
    except ValueError as error:
        raise ValueError(
            f"Expected a model whose output depends on its input through the "
            f"layer {target.name!r} alone. Received: model {model.name!r}, "
            f"which goes around it ({error})"
        ) from error
