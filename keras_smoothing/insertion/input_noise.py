"""Always-on noise in front of an existing model."""

import keras

from keras_smoothing import layers
from keras_smoothing import noise as noises
from keras_smoothing.certificates import checks
from keras_smoothing.insertion.first_layers import is_graph
from keras_smoothing.insertion.first_layers import mask_value
from keras_smoothing.insertion.first_layers import new_inputs
from keras_smoothing.insertion.first_layers import rebuild
from keras_smoothing.insertion.first_layers import tensors

# Each layer adds the noise of its type, and does nothing else.
_LAYERS = {
    noises.Gaussian: layers.GaussianNoiseAlways,
    noises.Laplace: layers.LaplaceNoiseAlways,
    noises.Uniform: layers.UniformNoiseAlways,
}


def add_input_noise(model, noise, seed=None):
    """Puts an always-on noise layer in front of a model.

    The result is a plain Keras model: it can be fine-tuned with `fit`, saved
    and loaded, and adds fresh noise at every call. `SmoothedModel` recognises
    it and certifies it with that noise. The models share weights; the given
    model is not changed.

    The noise comes before everything in the model, including preprocessing, so
    its scale is in the units of the model's input: in front of a model that
    begins with `Rescaling(1 / 255)`, sigma 0.25 of the rescaled image is
    `Gaussian(sigma=0.25 * 255)`.

    Padding that a `Masking` layer at the model's input masks gets no noise.

    Args:
        model: Keras model with one input: Sequential, functional, or a
            subclassed one that was built or called.
        noise: `keras_smoothing.noise.Gaussian`, `Laplace` or `Uniform`.
        seed: int or None, the seed of the layer's noise.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: if an argument is not as described, or if the model already
            begins with such a layer.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    model = keras.Sequential([keras.Input((28,)), keras.layers.Dense(9)])
    noisy = ks.add_input_noise(model, ks.noise.Gaussian(sigma=0.25))
    ks.SmoothedModel(noisy).noise
    # Gaussian(sigma=0.25)
    ```
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Invalid value for argument `model`. Expected a Keras model. "
            f"Received: model={model!r} of type {type(model)}"
            f"{checks.advice_on_keras_2(model)}"
        )
    own_noise, _ = split_input_noise(model)
    if own_noise is not None:
        raise ValueError(
            "Expected a model without noise at its input. Received: model "
            f"{model.name!r}, which adds {own_noise}"
        )
    check_float_inputs(model)
    # It keeps the name of the model's input, so that dicts still find it.
    own_inputs = getattr(model, "inputs", None)
    inputs = keras.Input(
        batch_shape=_input_shape(model),
        dtype=own_inputs[0].dtype if own_inputs else None,
        name=own_inputs[0].name if own_inputs else None,
    )
    layer = _noise_layer(noise, seed, mask_value(model))
    outputs = model(layer(inputs))
    return keras.Model(
        inputs, _named(outputs, model), name=f"noisy_{model.name}"
    )


def check_float_inputs(model):
    """Raises ValueError if an input of the model has no floating dtype."""
    for x in getattr(model, "inputs", None) or []:
        if not keras.backend.is_float_dtype(x.dtype):
            raise ValueError(
                "Expected a model with an input of floating type, to which "
                f"noise can be added. Received: input of dtype {x.dtype}"
            )


def split_input_noise(model):
    """The noise at the input of a model, and the model after it.

    Args:
        model: Keras model.

    Returns:
        noise: `keras_smoothing.noise.Noise`, or None if there is none.
        rest: Keras model with the same weights; `model` itself if there is no
            noise.
    """
    if not _holds_noise(model) or len(model.inputs) != 1:
        return None, model
    inputs = new_inputs(model)
    noises_found = []

    def call(layer, *args, **kwargs):
        if any(
            x is y for x in tensors((args, kwargs)) for y in tensors(inputs)
        ):
            noise = None
            if is_graph(layer):
                noise, layer = split_input_noise(layer)
            elif type(layer) in _LAYERS.values():
                noise = layer.noise
                kwargs.pop("mask", None)  # Identity does not take it.
                layer = keras.layers.Identity(dtype=layer.dtype_policy.name)
            noises_found.append(noise)
        return layer(*args, **kwargs)

    rest = rebuild(model, inputs, call)
    # Any other layer that takes the input sees it without noise.
    if len(noises_found) == 1 and noises_found[0] is not None:
        return noises_found[0], rest
    return None, model


def _holds_noise(layer):
    if is_graph(layer):
        return any(_holds_noise(inner) for inner in layer.layers)
    return type(layer) in _LAYERS.values()


def _noise_layer(noise, seed, mask_value):
    if type(noise) not in _LAYERS:
        raise ValueError(
            "Invalid value for argument `noise`. Expected Gaussian, Laplace "
            f"or Uniform noise. Received: noise={noise!r}"
        )
    (scale,) = noise.get_config().values()
    return _LAYERS[type(noise)](scale, seed=seed, mask_value=mask_value)


def _named(outputs, model):
    """Outputs in a list, with the names that losses and metrics use."""
    names = getattr(model, "output_names", None) or []
    if not isinstance(outputs, list | tuple) or len(set(names)) < len(outputs):
        return outputs
    return [
        keras.layers.Identity(name=name, dtype=output.dtype)(output)
        for name, output in zip(names, outputs, strict=True)
    ]


def _input_shape(model):
    # For a subclassed model, Keras knows it after its first call.
    shape = getattr(model, "input_shape", None)
    if shape is None:
        shape = (model.get_build_config() or {}).get("input_shape")
        shape = None if shape is None else tuple(shape)
    if not isinstance(shape, tuple | list) or isinstance(
        shape[0], tuple | list
    ):
        raise ValueError(
            "Expected a model with one input of known shape; a subclassed one "
            f"must have been called once. Received: input shape {shape}"
        )
    return shape
