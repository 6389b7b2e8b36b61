"""Options that several commands have, and what they stand for."""

import contextlib

from keras_smoothing.cli import model_file
from keras_smoothing.cli.parser import Parser
from keras_smoothing.data_dependent import DataDependentSigma
from keras_smoothing.noise import Gaussian
from keras_smoothing.promises import CertificationMemory
from keras_smoothing.serialized import Audited
from keras_smoothing.serialized import Exact
from keras_smoothing.smoothed import Smoothed
from keras_smoothing.smoothed_model import SmoothedModel


def draws():
    """A parser of the options of noise and draws, for others to take up."""
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
    """The same, and those of serialized smoothing."""
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
    """The form of serialized smoothing that is asked for, or None."""
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
    """The search for a sigma of each image that is asked for, or None."""
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
    """Adds the options of a sigma for each image, and of what it takes."""
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
    """A context of the memory that is asked for, or of None."""
    if arguments.memory is None:
        return contextlib.nullcontext()
    return CertificationMemory(arguments.memory)


def smoothed(arguments, trusted=False):
    """The model file as a `SmoothedModel`.

    Args:
        arguments: of a command.
        trusted: bool, whether Python code in the file is run.
    """
    model = model_file.load(arguments.model, arguments.modules, trusted)
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
