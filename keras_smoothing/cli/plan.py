import argparse

from keras_smoothing import certify
from keras_smoothing.cli import options
from keras_smoothing.cli.terminal import show
from keras_smoothing.noise import Gaussian


def add_to(commands):
    """Adds the command to those of a parser."""
    planning = commands.add_parser(
        "plan",
        parents=[options.sampling()],
        help="what n draws certify, at what cost",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    planning.set_defaults(run=run)
    add = planning.add_argument
    add("--model", metavar="MODEL", help="is timed for a few seconds")
    add("--examples", type=int, default=1, help="how many to certify")


def run(arguments):
    serialized = options.serialized(arguments)
    if arguments.model:
        model = options.smoothed(arguments)
        noise, base_model = model.noise, model.classifier
    elif arguments.sigma is not None:
        noise, base_model = Gaussian(arguments.sigma), None
    else:
        raise ValueError("Expected --sigma or --model. Received: neither")
    planned = certify.plan(
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
    show(str(planned))
