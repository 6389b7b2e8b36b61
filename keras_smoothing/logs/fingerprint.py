"""Model fingerprints, also for models with layers that Keras cannot save."""

import codecs
import functools
import inspect
import json
import marshal
import re
import types
import warnings

import keras
import numpy as np
from keras import ops

from keras_smoothing.certificates.utils import weights_digest

# The address of an object, which differs between processes.
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


def saved(thing):
    """Returns an object as Keras would save it, or None if Keras cannot."""
    try:
        return keras.saving.serialize_keras_object(thing)
    # Errors of any type: from objects without a configuration, lambdas whose
    # source is not in a file, bytes that are not text.
    except Exception:
        return None


def constructor_arguments(thing):
    """Returns the constructor arguments of a Keras object.

    By Keras's convention, the object keeps each as an attribute of that name.

    Args:
        thing: Keras layer or similar object.

    Returns:
        dict.
    """
    names = [
        name
        for kind in type(thing).__mro__
        for name in inspect.signature(kind.__init__).parameters
    ]
    # A layer's "dtype" is only that of its variables.
    return {
        name: described(getattr(thing, name))
        for name in dict.fromkeys([*names, "dtype_policy"])
        if hasattr(thing, name)
    }


def described(value, above=()):
    """Describes any value by its parts, and objects by their contents.

    Args:
        value: any value of a configuration.
        above: tuple of ints, the ids of the values that contain it.
    """
    if id(value) in above:  # An object that holds itself.
        return "..."
    part = functools.partial(described, above=(*above, id(value)))
    if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        code = marshal.dumps(value.__code__, 0).hex()
        return {"lambda": [code, part(value.__defaults__), part(cells)]}
    if value is None:
        return None
    config = saved(value)
    if config is not None:
        return config
    if isinstance(value, list | tuple):
        return [part(item) for item in value]
    if isinstance(value, dict):
        return {str(key): part(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [part(item) for item in sorted(value, key=repr)]
    if isinstance(value, functools.partial):
        held = [value.func, value.args, value.keywords]
    elif hasattr(value, "get_config"):
        held = constructor_arguments(value)
    else:
        held = getattr(value, "__dict__", _ADDRESS.sub("", str(value)))
    return {type(value).__name__: part(held)}


def text_or_parts(value):
    """Returns a JSON substitute: the value's text, if that is complete."""
    text = str(value)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        # NumPy abbreviates large arrays and omits the last digits.
        whole = np.array2string(
            array, threshold=array.size + 1, floatmode="unique"
        )
        return text if whole in text else whole
    return described(value) if _ADDRESS.search(text) else text


# The modules of base model classes when fingerprints were first stored in logs
# and memories. So a class may move without changing its model's fingerprint.
_FIRST_MODULES = {
    f"keras_smoothing>{name}": module
    for name, module in {
        "ContractiveConv2D": "equilibrium.cells.contractive_conv2d",
        "ContractiveDense": "equilibrium.cells.contractive_dense",
        "ConvCell": "equilibrium.cells.conv_cell",
        "DenseCell": "equilibrium.cells.dense_cell",
        "Implicit": "equilibrium.gradients.implicit",
        "OneStep": "equilibrium.gradients.one_step",
        "Phantom": "equilibrium.gradients.phantom",
        "Unrolled": "equilibrium.gradients.unrolled",
        "GaussianNoiseAlways": "layers.gaussian_noise_always",
        "LaplaceNoiseAlways": "layers.laplace_noise_always",
        "UniformNoiseAlways": "layers.uniform_noise_always",
        "MeanState": "serialized.mean_state",
        "Unpack": "answers.unpack",
    }.items()
}


def fingerprint(model):
    """Returns a hash of a model's weights and configuration.

    It covers neither Python code nor attributes that `get_config` omits. It
    also omits names, since Keras numbers layers anew in every process. A layer
    that Keras cannot save, for instance with a `partial` as its activation, is
    identified by its constructor arguments.

    Args:
        model: built Keras model.

    Returns:
        str, 64 hexadecimal digits.
    """
    return weights_digest(
        map(ops.convert_to_numpy, model.weights), beside=structure(model)
    )


def structure(model):
    """Returns a model's configuration without names, as text."""
    with warnings.catch_warnings():
        # Keras warns about saving lambdas, but nothing is saved here.
        warnings.simplefilter("ignore")
        config = _config(model)
    names = {}

    def canonical(node):
        if isinstance(node, dict):
            if node.get("class_name") == "__lambda__":
                node = {**node, "config": _plain(node["config"])}
            if node.get("registered_name") in _FIRST_MODULES:
                module = _FIRST_MODULES[node["registered_name"]]
                node = {**node, "module": f"keras_smoothing.{module}"}
            if not _takes_keys(node):
                node = {str(key): value for key, value in node.items()}
            if isinstance(node.get("name"), str):
                names.setdefault(node["name"], f"name_{len(names)}")
            return {
                key: canonical(value)
                for key, value in node.items()
                # How a model was compiled or built does not affect its output.
                if key not in ("compile_config", "build_config")
            }
        if isinstance(node, list | tuple):
            return [canonical(value) for value in node]
        return node

    def renamed(node):
        if isinstance(node, dict):
            return {key: renamed(value) for key, value in node.items()}
        if isinstance(node, list):
            return [renamed(value) for value in node]
        return names.get(node, node) if isinstance(node, str) else node

    def described(value):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return canonical(text_or_parts(value))

    text = renamed(canonical(config))
    return type(model).__name__ + json.dumps(
        text, sort_keys=True, default=described
    )


def _config(model):
    try:
        return model.get_config()
    except NotImplementedError:  # Keras raises it for subclassed models.
        return {}
    except Exception:  # Of any type, if Keras cannot save some part.
        odd = [part for part in _layers(model) if not saved(part)]
    # Keras still describes the other layers and all connections.
    for layer in odd:
        arguments = functools.partial(constructor_arguments, layer)
        vars(layer)["get_config"] = arguments
    try:
        return model.get_config()
    except Exception:  # The model itself cannot be saved.
        return constructor_arguments(model)
    finally:
        for layer in odd:
            del vars(layer)["get_config"]


def _layers(model):
    """Yields a model's layers and, recursively, those of nested models."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _takes_keys(node):
    """Returns whether JSON accepts and sorts a dict's keys."""
    try:
        json.dumps(dict.fromkeys(node), sort_keys=True)
    except TypeError:
        return False
    return True


def _plain(config):
    """Normalizes a lambda's config, so that its code always has the same bytes.

    Keras's format also records which parts of the code were referenced
    elsewhere when it was written. This changes once the code is loaded.
    """
    if "code" not in config:  # Only in a Lambda layer's config has it a name.
        encoded, *rest = config["value"]
        return {**config, "value": [_plain_code(encoded), *rest]}
    return {**config, "code": _plain_code(config["code"])}


def _plain_code(encoded):
    code = marshal.loads(codecs.decode(encoded.encode(), "base64"))
    return marshal.dumps(code, 0).hex()
