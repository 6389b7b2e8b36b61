import pathlib

from keras_smoothing import datasets
from keras_smoothing import evaluation
from keras_smoothing.certificates import checks
from keras_smoothing.cli.terminal import printable
from keras_smoothing.cli.terminal import show
from keras_smoothing.evaluation.pairing import are_paired
from keras_smoothing.evaluation.tables import one_distance
from keras_smoothing.logs import read_log
from keras_smoothing.logs import read_settings
from keras_smoothing.logs.log_format import CHAINED
from keras_smoothing.report import write_html
from keras_smoothing.results import CertificationResult


def add_to(commands):
    """Adds the command to those of a parser."""
    report = commands.add_parser("report", help="tabulate and plot logs")
    report.set_defaults(run=run)
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


def run(arguments):
    logs = _named(arguments.logs)
    results = {name: read_log(path) for name, path in logs.items()}
    for name, result in results.items():
        if not isinstance(result, CertificationResult):
            return _describe(name, result, arguments)
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
            settings={name: _settings(path) for name, path in logs.items()},
        )
    for name, result in results.items():
        show(f"{name}: {result}")
    if not are_paired(list(results.values())):
        show("Not all logs are of the same examples, with the same labels.")
    # Results without labels have no table.
    if not arguments.html or all(
        result.label is not None for result in results.values()
    ):
        show(evaluation.table(results, radii))


def _settings(path):
    """The settings of a log, with a note if its rows are not bound to them."""
    settings = read_settings(path)
    if settings is not None and settings["format"] < CHAINED:
        settings["rows"] = "not bound to these settings"
    return settings


def _describe(name, result, arguments):
    """Prints and plots a result that is not one class for each example."""
    asked = ("radii", "html", "dataset", "confidence")
    given = [f"--{option}" for option in asked if getattr(arguments, option)]
    if len(arguments.logs) > 1 or given:
        raise ValueError(
            "Expected logs of one class for each example, for several at a "
            f"time, tables and pages. Received: {name}, a log of "
            f"{type(result).__name__}; without others and "
            f"{', '.join(given) or 'options'}, it is described"
        )
    result.summary(print_fn=show)
    if arguments.plot:
        result.plot().figure.savefig(arguments.plot)


def _named(logs):
    """Paths of logs, by short names if these are distinct."""
    paths = [pathlib.Path(log) for log in logs]
    names = [printable(path.stem) for path in paths]
    if len(set(names)) < len(names):
        names = [printable(log) for log in logs]
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
