"""Shared options of the commands, and loading models from files."""

import contextlib
import importlib
import inspect
import json
import os
import re
import sys
import zipfile

import keras

from keras_smoothing.cli.terminal import Parser
from keras_smoothing.memory import CertificationMemory
from keras_smoothing.models.classifier import SmoothedModel
from keras_smoothing.models.smoothed import Smoothed
from keras_smoothing.noise import Gaussian
from keras_smoothing.serialized import Audited
from keras_smoothing.serialized import Exact
from keras_smoothing.sigma_search import DataDependentSigma

# Keras's messages about an unknown class or function.
_UNKNOWN = re.compile(
    r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '?([\w>.]+)'?"
)


def load(path, modules=(), trusted=False):
    """Loads a model for inference, without its compile configuration.

    Args:
        path: str, path of a `.keras`, `.h5` or `.hdf5` file.
        modules: names of modules with custom classes of the model. They are
            imported, from the working directory too, and Keras then knows the
            classes that they define and the objects that they register.
        trusted: bool, whether to run Python code in the file.

    Returns:
        Keras model.

    Raises:
        ValueError: if the file does not exist, is not a model, or contains an
            unknown class or function.
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
    """The Keras version of a `.keras` file; an empty str for other files."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    return str(metadata.get("keras_version", ""))


def _import(name):
    """Imports a module, and registers its classes by their names."""
    if "" not in sys.path:
        sys.path.append("")  # A command's path lacks the working directory.
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


def draws():
    """A parent parser with the options for noise and draws."""
    parser = Parser(add_help=False)
    add = parser.add_argument
    add("--sigma", type=float, help="Gaussian noise, for a plain model")
    add("--n0", type=int, default=100, help="draws that select the class")
    add("--n", type=int, default=100_000, help="draws of the estimate")
    add("--alpha", type=float, default=0.001, help="failure probability")
    add("--batch-size", type=int, default=1024, help="noisy copies in a batch")
    add(
        "--import",
        dest="modules",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="with layers and functions of your own, that the model has",
    )
    return parser


def sampling():
    """A parent parser that adds the options for serialized smoothing."""
    parser = Parser(add_help=False, parents=[draws()])
    add = parser.add_argument
    add(
        "--serialized",
        choices=("exact", "audited"),
        help="find the votes of an equilibrium network in few steps",
    )
    add("--num-audited", type=int, help="draws audited, of --n")
    add("--steps", type=int, help="of the solver, for a vote to be audited")
    return parser


def serialized(arguments):
    """The requested form of serialized smoothing, or None."""
    if arguments.serialized == "audited":
        return Audited(arguments.num_audited, arguments.steps)
    for option, value in (
        ("--num-audited", arguments.num_audited),
        ("--steps", arguments.steps),
    ):
        if value is not None:
            raise ValueError(
                f"Expected {option} with --serialized audited only. Received: "
                f"{option} {value}"
            )
    return Exact() if arguments.serialized == "exact" else None


def data_dependent(arguments, model):
    """The requested search for a sigma for each image, or None."""
    if arguments.data_dependent is None:
        return None
    stddev = model.noise.stddev
    bounds = arguments.data_dependent or [stddev / 2, 4 * stddev]
    if len(bounds) != 2:
        raise ValueError(
            "Expected --data-dependent alone or with two numbers, the least "
            f"sigma and the largest. Received: --data-dependent {bounds}"
        )
    return DataDependentSigma(*bounds)


def add_promises(parser):
    """Adds the options for a sigma for each image, and for a memory."""
    add = parser.add_argument
    add(
        "--data-dependent",
        type=float,
        nargs="*",
        metavar="SIGMA",
        help="a sigma for each image, from the least to the largest given; "
        "without, from half to four times that of the model",
    )
    add(
        "--memory",
        metavar="FILE",
        help="keeps the promises made, in an SQLite file or at a "
        "postgresql:// address",
    )


def memory(arguments):
    """A context with the requested memory, or with None."""
    if arguments.memory is None:
        return contextlib.nullcontext()
    return CertificationMemory(arguments.memory)


def smoothed(arguments, trusted=False):
    """The model file as a `SmoothedModel`.

    Args:
        arguments: the parsed arguments of a command.
        trusted: bool, whether to run Python code in the file.
    """
    model = load(arguments.model, arguments.modules, trusted)
    sigma = arguments.sigma
    if isinstance(model, Smoothed) and not isinstance(model, SmoothedModel):
        raise ValueError(
            "Expected a model of one class for each example. Received: "
            f"{arguments.model}, a {type(model).__name__}, which `certify` in "
            "Python is for. `report` describes its logs"
        )
    if not isinstance(model, SmoothedModel):
        if sigma is None:
            raise ValueError(
                f"Expected --sigma, since {arguments.model} is a model "
                "without noise. Received: none"
            )
        return SmoothedModel(model, Gaussian(sigma))
    if sigma is not None and getattr(model.noise, "sigma", None) != sigma:
        raise ValueError(
            f"Expected no --sigma, or that of {arguments.model}, which is "
            f"smoothed by {model.noise}. Received: --sigma {sigma}"
        )
    return model
