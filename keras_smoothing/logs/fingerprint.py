import codecs
import hashlib
import json
import marshal
import warnings

from keras import ops


def fingerprint(model):
    """A hash of a model's weights and configuration.

    It does not see Python code, nor attributes that `get_config` leaves out.
    Names are left out of it too, since Keras numbers the names of layers anew
    in every process.

    Args:
        model: built Keras model.

    Returns:
        str, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(structure(model).encode())
    for weight in model.weights:
        value = ops.convert_to_numpy(weight)
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def structure(model):
    """A model's configuration without names, as text."""
    try:
        with warnings.catch_warnings():
            # Keras warns of lambdas that are saved; nothing is saved here.
            warnings.simplefilter("ignore")
            config = model.get_config()
    except NotImplementedError:  # Keras's answer for subclassed models.
        config = {}
    names = {}

    def canonical(node):
        if isinstance(node, dict):
            if node.get("class_name") == "__lambda__":
                node = {**node, "config": _plain(node["config"])}
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

    text = renamed(canonical(config))
    return type(model).__name__ + json.dumps(text, sort_keys=True, default=str)


def _plain(config):
    """That of a lambda, whose code has the same bytes wherever it is from.

    Keras writes it in a format that also says which of its parts were in use
    elsewhere when it was written, as they are not once it is loaded.
    """
    code = marshal.loads(codecs.decode(config["code"].encode(), "base64"))
    return {**config, "code": marshal.dumps(code, 0).hex()}
