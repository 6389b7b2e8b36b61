"""Settings of layers that Keras cannot save, as JSON takes them."""

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

# Of an object in memory: another one in the next process.
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


def saved(thing):
    """What Keras would save, or None where it cannot."""
    try:
        return keras.saving.serialize_keras_object(thing)
    # Of any type: by objects without a configuration, by lambdas whose source
    # is not in a file, by bytes that are no text.
    except Exception:
        return None


def constructor_arguments(thing):
    """What the constructors of a Keras object were called with.

    By Keras's convention it keeps each under its own name.

    Args:
        thing: Keras layer or the like.

    Returns:
        dict.
    """
    names = [
        name
        for kind in type(thing).__mro__
        for name in inspect.signature(kind.__init__).parameters
    ]
    # A layer's own "dtype" is that of its variables only.
    return {
        name: described(getattr(thing, name))
        for name in dict.fromkeys([*names, "dtype_policy"])
        if hasattr(thing, name)
    }


def described(value, above=()):
    """Any value by its parts; objects by what they hold.

    Args:
        value: whatever a configuration holds.
        above: tuple of ints, the ids of what it is a part of.
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
    """What JSON takes in place of a value: its text where that says it all."""
    text = str(value)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        # NumPy leaves out values of large arrays, and the last digits of all.
        whole = np.array2string(
            array, threshold=array.size + 1, floatmode="unique"
        )
        return text if whole in text else whole
    return described(value) if _ADDRESS.search(text) else text


# Where classes of base models were when logs and memories began, which keep
# fingerprints: a class may move, and its model stays the same.
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
    """A hash of a model's weights and configuration.

    It does not see Python code, nor attributes that `get_config` leaves out.
    Names are left out of it too, since Keras numbers the names of layers anew
    in every process. A layer that Keras cannot save, as with a `partial` for
    an activation, is known by the arguments of its constructor.

    Args:
        model: built Keras model.

    Returns:
        str, 64 hexadecimal digits.
    """
    return weights_digest(
        map(ops.convert_to_numpy, model.weights), beside=structure(model)
    )


def structure(model):
    """A model's configuration without names, as text."""
    with warnings.catch_warnings():
        # Keras warns of lambdas that are saved; nothing is saved here.
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
                # How a model was compiled or built says nothing of its output.
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
    except NotImplementedError:  # Keras's answer for subclassed models.
        return {}
    except Exception:  # Of any type, where Keras cannot save something.
        odd = [part for part in _layers(model) if not saved(part)]
    # What other layers are, and how all are connected, Keras tells.
    for layer in odd:
        arguments = functools.partial(constructor_arguments, layer)
        vars(layer)["get_config"] = arguments
    try:
        return model.get_config()
    except Exception:  # As above: the model's own doing.
        return constructor_arguments(model)
    finally:
        for layer in odd:
            del vars(layer)["get_config"]


def _layers(model):
    """Yields the layers of a model, and those of models among them."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _takes_keys(node):
    """Whether JSON takes and sorts the keys of a dict."""
    try:
        json.dumps(dict.fromkeys(node), sort_keys=True)
    except TypeError:
        return False
    return True


def _plain(config):
    """That of a lambda, whose code has the same bytes wherever it is from.

    Keras writes it in a format that also says which of its parts were in use
    elsewhere when it was written, as they are not once it is loaded.
    """
    if "code" not in config:  # Of a Lambda layer only it has a name.
        encoded, *rest = config["value"]
        return {**config, "value": [_plain_code(encoded), *rest]}
    return {**config, "code": _plain_code(config["code"])}


def _plain_code(encoded):
    code = marshal.loads(codecs.decode(encoded.encode(), "base64"))
    return marshal.dumps(code, 0).hex()
