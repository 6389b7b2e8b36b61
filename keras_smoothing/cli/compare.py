from keras_smoothing import evaluation
from keras_smoothing.cli.terminal import printable
from keras_smoothing.cli.terminal import show
from keras_smoothing.logs import read_log


def add_to(commands):
    """Adds the command to those of a parser."""
    comparing = commands.add_parser(
        "compare", help="say how sure it is that two logs differ"
    )
    comparing.set_defaults(run=run)
    add = comparing.add_argument
    add("a", metavar="A.tsv", help="ours or a six-column log")
    add("b", metavar="B.tsv", help="of the same examples, in any order")
    add("--radii", type=float, nargs="+", help="lines of the table")
    add("--confidence", type=float, default=0.95, help="of each interval")
    add(
        "--largest-radius",
        type=float,
        nargs="+",
        metavar="R",
        help="which no radius can exceed, or one for each log: for the "
        "interval of ACR, where the settings of a log do not say it",
    )


def run(arguments):
    a, b = (read_log(log) for log in (arguments.a, arguments.b))
    comparison = evaluation.compare(
        a,
        b,
        arguments.radii,
        arguments.confidence,
        arguments.largest_radius,
    )
    names = printable(arguments.a), printable(arguments.b)
    show(f"a: {names[0]}: {a}\nb: {names[1]}: {b}\n{comparison}")
