"""Models out of files, as Keras saves them, or Keras 2 did."""

import importlib
import inspect
import json
import os
import re
import sys
import zipfile

import keras

# How Keras names a class or function that it does not know.
_UNKNOWN = re.compile(
    r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '?([\w>.]+)'?"
)


def load(path, modules=(), trusted=False):
    """Loads a model for inference: how it was compiled does not matter.

    Args:
        path: str, of a `.keras`, `.h5` or `.hdf5` file.
        modules: names of modules with classes that the model has. They are
            imported, from the working directory too, and what they register
            and define is known from then on.
        trusted: bool, whether Python code in the file is run.

    Returns:
        Keras model.

    Raises:
        ValueError: for a file that is not there or no model, or a part of it
            that is not known.
    """
    if not os.path.isfile(path):
        raise ValueError(f"Expected a model file. Received: {path}, no file")
    for module in modules:
        _import(module)
    try:
        return keras.saving.load_model(
            path, compile=False, safe_mode=not trusted
        )
    except Exception as error:
        version = _version(path)
        if version.startswith("2."):
            raise ValueError(
                "Expected a file of Keras 3, or an .h5 file of Keras 2. "
                f"Received: {path}, of Keras {version}. Load it there, and "
                "save it as .h5"
            ) from error
        unknown = _UNKNOWN.findall(str(error))
        if not unknown:
            raise
        raise ValueError(
            "Expected --import MODULE, the module that defines "
            f"{unknown[-1]!r}, a class or function in {path} that Keras does "
            "not know. A function has to be registered there, by "
            "@keras.saving.register_keras_serializable(). Received: "
            + (f"--import {' '.join(modules)}" if modules else "none")
        ) from error


def _version(path):
    """The Keras that wrote a `.keras` file; of other files an empty str."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    return str(metadata.get("keras_version", ""))


def _import(name):
    """Imports a module, and makes its classes known by their names."""
    if "" not in sys.path:
        sys.path.append("")  # The command is not started from there.
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            "Expected --import of a module that Python finds, by its name "
            f"without .py. Received: --import {name}: {error}"
        ) from error
    known = keras.saving.get_custom_objects()
    for thing in vars(module).values():
        if inspect.isclass(thing) and thing.__module__ == module.__name__:
            known.setdefault(thing.__name__, thing)
