import sys
import warnings

from keras_smoothing.cli import certify
from keras_smoothing.cli import compare
from keras_smoothing.cli import plan
from keras_smoothing.cli import report
from keras_smoothing.cli import serve
from keras_smoothing.cli.terminal import Parser
from keras_smoothing.cli.terminal import printable
from keras_smoothing.version import __version__


def main(argv=None):
    """Runs the command. On an error, prints one line and returns 2."""
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
        # Messages of other packages may be long: line 1 says what failed.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"keras-smoothing: error: {printable(lines[0])}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = Parser(
        prog="keras-smoothing",
        description="Certified robustness for Keras models.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (certify, report, compare, plan, serve):
        command.add_to(commands)
    return parser


def _show_warning(message, *_, **__):
    text = printable(str(message))
    print(f"keras-smoothing: warning: {text}", file=sys.stderr)
