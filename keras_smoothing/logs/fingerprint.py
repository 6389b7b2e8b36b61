import codecs
import functools
import json
import marshal
import warnings

from keras import ops

from keras_smoothing.digests import weights_digest
from keras_smoothing.logs import odd_settings


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
            return canonical(odd_settings.text_or_parts(value))

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
        odd = [part for part in _layers(model) if not odd_settings.saved(part)]
    # What other layers are, and how all are connected, Keras tells.
    for layer in odd:
        arguments = functools.partial(odd_settings.arguments, layer)
        vars(layer)["get_config"] = arguments
    try:
        return model.get_config()
    except Exception:  # As above: the model's own doing.
        return odd_settings.arguments(model)
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
