"""The command `keras-smoothing`."""

import argparse
import contextlib
import pathlib
import sys
import warnings

import keras

from keras_smoothing import checks
from keras_smoothing import datasets
from keras_smoothing import evaluation
from keras_smoothing.certification import plan
from keras_smoothing.data_dependent import DataDependentSigma
from keras_smoothing.evaluation.distance import one_distance
from keras_smoothing.logs import read_log
from keras_smoothing.logs import read_settings
from keras_smoothing.noise import Gaussian
from keras_smoothing.promises import CertificationMemory
from keras_smoothing.report import write_html
from keras_smoothing.serialized import Audited
from keras_smoothing.serialized import Exact
from keras_smoothing.smoothed_model import SmoothedModel
from keras_smoothing.statistics import AdaptiveSampling
from keras_smoothing.statistics import FixedSampling
from keras_smoothing.version import __version__


def main(argv=None):
    """Runs the command; the exit code is 2, and one line says why, on error."""
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show_warning
            arguments.run(arguments)
    except KeyboardInterrupt:
        print("keras-smoothing: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        # Other packages' messages have many lines: the first says what failed.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"keras-smoothing: error: {lines[0]}", file=sys.stderr)
        return 2
    return 0


def _certify(arguments):
    serialized = _serialized(arguments)
    model = _smoothed(arguments)
    stopping = FixedSampling(arguments.n)
    if arguments.adaptive:
        if arguments.radii is None:
            raise ValueError(
                "Expected --radii with --adaptive, the grid that is to be "
                "settled. Received: none"
            )
        stopping = AdaptiveSampling(arguments.radii, max_n=arguments.n)
    sigma = _data_dependent(arguments, model)
    x, y = datasets.load(arguments.dataset, arguments.split)
    memory = contextlib.nullcontext()
    if arguments.memory is not None:
        memory = CertificationMemory(arguments.memory)
    with memory as memory:
        result = model.certify(
            x,
            y,
            n0=arguments.n0,
            stopping=stopping,
            alpha=arguments.alpha,
            top_k=arguments.top_k,
            family_wise=arguments.family_wise,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            log=arguments.log,
            check_independence=arguments.check_independence,
            serialized=serialized,
            sigma=sigma,
            memory=memory,
            verbose=arguments.verbose,
        )
    result.summary(arguments.radii)


def _report(arguments):
    logs = _named(arguments.logs)
    results = {name: read_log(path) for name, path in logs.items()}
    if arguments.confidence is not None:
        alpha = 1 - checks.probability("confidence", arguments.confidence)
        results = {
            name: result.recertify(alpha, family_wise=True)
            for name, result in results.items()
        }
    distance = one_distance(results.values())
    images = _images(arguments)
    radii = arguments.radii
    if radii is None:
        largest = max(result.radius.max() for result in results.values())
        radii = evaluation.default_radii(largest)
    if arguments.plot:
        ax = evaluation.plot_certified_accuracy(results)
        ax.set_xlabel(f"{distance} radius" if distance else "radius")
        ax.figure.savefig(arguments.plot)
    if arguments.html:
        write_html(
            arguments.html,
            results,
            radii,
            images=images,
            settings={name: read_settings(path) for name, path in logs.items()},
        )
    for name, result in results.items():
        print(f"{name}: {result}")
    # Of results without labels, a page is all there is.
    if not arguments.html or all(
        result.label is not None for result in results.values()
    ):
        print(evaluation.table(results, radii))


def _compare(arguments):
    a, b = (read_log(log) for log in (arguments.a, arguments.b))
    comparison = evaluation.compare(a, b, arguments.radii, arguments.confidence)
    print(f"a: {arguments.a}: {a}\nb: {arguments.b}: {b}\n{comparison}")


def _named(logs):
    """Paths of logs, by short names where these are distinct."""
    paths = [pathlib.Path(log) for log in logs]
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = logs
    return dict(zip(names, paths, strict=True))


def _images(arguments):
    """The images of `--dataset`, or None without it."""
    if arguments.dataset is None:
        return None
    if not arguments.html:
        raise ValueError(
            "Expected --dataset with --html, for the pictures of its page. "
            f"Received: --dataset {arguments.dataset} alone"
        )
    return datasets.load(arguments.dataset, arguments.split)[0]


def _plan(arguments):
    serialized = _serialized(arguments)
    if arguments.model:
        model = _smoothed(arguments)
        noise, base_model = model.noise, model.base_model
    elif arguments.sigma is not None:
        noise, base_model = Gaussian(arguments.sigma), None
    else:
        raise ValueError("Expected --sigma or --model. Received: neither")
    planned = plan(
        arguments.n,
        arguments.alpha,
        noise,
        n0=arguments.n0,
        num_examples=arguments.examples,
        model=base_model,
        batch_size=arguments.batch_size,
        serialized=serialized,
    )
    if planned.n < planned.smallest_n:
        raise ValueError(
            f"Expected --n >= {planned.smallest_n} at alpha={planned.alpha}: "
            "with fewer draws every example abstains, even when all votes "
            f"agree. Received: --n {planned.n}"
        )
    if not planned.largest_radius:
        raise ValueError(
            f"Expected more audits at alpha={planned.alpha}: with so few every "
            "example abstains, even when all votes agree. Received: "
            f"--num-audited {planned.num_audited}"
        )
    print(planned)


def _serialized(arguments):
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


def _data_dependent(arguments, model):
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


def _smoothed(arguments):
    """The model file as a `SmoothedModel`."""
    model = keras.saving.load_model(arguments.model)
    sigma = arguments.sigma
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


def _parser():
    parser = _Parser(
        prog="keras-smoothing",
        description="Certified robustness for Keras models.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sampling = _Parser(add_help=False)
    add = sampling.add_argument
    add("--sigma", type=float, help="Gaussian noise, for a plain model")
    add("--n0", type=int, default=100, help="draws that select the class")
    add("--n", type=int, default=100_000, help="draws of the estimate")
    add("--alpha", type=float, default=0.001, help="failure probability")
    add("--batch-size", type=int, default=1024, help="noisy copies in a batch")

    add(
        "--serialized",
        choices=("exact", "audited"),
        help="find the votes of an equilibrium network in few steps",
    )
    add("--num-audited", type=int, help="draws audited, of --n")
    add("--steps", type=int, help="of the solver, for a vote to be audited")

    certify = commands.add_parser(
        "certify",
        parents=[sampling],
        help="certify a model on a dataset",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    certify.set_defaults(run=_certify)
    add = certify.add_argument
    add("model", metavar="MODEL.keras", help="plain or a SmoothedModel")
    add("--dataset", required=True, help="digits, or a name known to tfds")
    add("--split", default="test", help='as in "test[:500]"')
    add("--seed", type=int, help="root of all draws; fresh without")
    add("--log", help="rows go here; the same command resumes the run")
    add("--radii", type=float, nargs="+", help="columns of the table")
    add(
        "--adaptive",
        action="store_true",
        help="draw until the columns of --radii are settled, at most --n",
    )
    add("--top-k", type=int, default=1, help="stay among the k most voted")
    add(
        "--family-wise",
        action="store_true",
        help="alpha is for all certificates together",
    )
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
    add(
        "--check-independence",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse models that mix the examples of a batch",
    )
    add("--verbose", type=int, default=1, choices=(0, 1, 2), help="progress")

    report = commands.add_parser("report", help="tabulate and plot logs")
    report.set_defaults(run=_report)
    add = report.add_argument
    add("logs", nargs="+", metavar="LOG.tsv", help="ours or six-column logs")
    add("--radii", type=float, nargs="+", help="columns of the table")
    add("--plot", metavar="OUT.png", help="draw the curves")
    add("--html", metavar="OUT.html", help="write a page with all there is")
    add("--dataset", help="of the logs, for pictures on the page")
    add("--split", default="test", help='as in "test[:500]"')
    add(
        "--confidence",
        type=float,
        help="lower bounds that hold together with this probability",
    )

    comparing = commands.add_parser(
        "compare", help="say how sure it is that two logs differ"
    )
    comparing.set_defaults(run=_compare)
    add = comparing.add_argument
    add("a", metavar="A.tsv", help="ours or a six-column log")
    add("b", metavar="B.tsv", help="of the same examples in the same order")
    add("--radii", type=float, nargs="+", help="lines of the table")
    add("--confidence", type=float, default=0.95, help="of each interval")

    planning = commands.add_parser(
        "plan",
        parents=[sampling],
        help="what n draws certify, at what cost",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    planning.set_defaults(run=_plan)
    add = planning.add_argument
    add("--model", metavar="MODEL.keras", help="is timed for a few seconds")
    add("--examples", type=int, default=1, help="how many to certify")
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, like every other error."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def _show_warning(message, *_, **__):
    print(f"keras-smoothing: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
