import argparse

from keras_smoothing import datasets
from keras_smoothing.certificates import AdaptiveSampling
from keras_smoothing.certificates import FixedSampling
from keras_smoothing.cli import options
from keras_smoothing.cli.terminal import show
from keras_smoothing.cluster import Ray


def add_to(commands):
    """Adds the command to those of a parser."""
    certify = commands.add_parser(
        "certify",
        parents=[options.sampling()],
        help="certify a model on a dataset",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    certify.set_defaults(run=run)
    add = certify.add_argument
    add("model", metavar="MODEL", help="a file, plain or a SmoothedModel")
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
    options.add_promises(certify)
    add(
        "--check-independence",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse models that mix the examples of a batch",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="certify in N processes, started by Ray on this machine",
    )
    add(
        "--cluster",
        metavar="ADDRESS",
        help='or on the Ray cluster at "auto", host:port or ray://host:port',
    )
    add("--verbose", type=int, default=1, choices=(0, 1, 2), help="progress")


def run(arguments):
    serialized = options.serialized(arguments)
    model = options.smoothed(arguments)
    stopping = FixedSampling(arguments.n)
    if arguments.adaptive:
        if arguments.radii is None:
            raise ValueError(
                "Expected --radii with --adaptive, the grid that is to be "
                "settled. Received: none"
            )
        stopping = AdaptiveSampling(arguments.radii, max_n=arguments.n)
    sigma = options.data_dependent(arguments, model)
    cluster = None
    if arguments.cluster is not None or arguments.workers is not None:
        cluster = Ray(arguments.cluster, arguments.workers)
    x, y = datasets.load(arguments.dataset, arguments.split)
    with options.memory(arguments) as memory:
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
            cluster=cluster,
            verbose=arguments.verbose,
        )
    result.summary(arguments.radii, print_fn=show)
