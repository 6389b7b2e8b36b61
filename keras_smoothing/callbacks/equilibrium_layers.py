from keras_smoothing.layers import DeepEquilibrium


def equilibrium_layers(model):
    """All layers of the type `DeepEquilibrium` in a model, at any depth.

    Raises:
        ValueError: if there are none.
    """
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, DeepEquilibrium)
    ]
    if not layers:
        raise ValueError(
            "Expected a model with layers of the type DeepEquilibrium. "
            f"Received: {model!r}"
        )
    return layers
