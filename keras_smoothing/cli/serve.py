import argparse
import contextlib
import math
import signal
import socket
import sys

from keras_smoothing.cli import options

# For each request at a time: who is idle, or sends a request.
_CONNECTIONS = 4


def add_to(commands):
    """Adds the command to those of a parser."""
    serving = commands.add_parser(
        "serve",
        parents=[options.draws()],
        help="answer over HTTP",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    serving.set_defaults(run=run, n=1_000)
    add = serving.add_argument
    add("model", metavar="MODEL", help="a file, plain or a SmoothedModel")
    add("--host", default="127.0.0.1", help="0.0.0.0 for all of the machine's")
    add("--port", type=int, default=8000, help="0 for any that is free")
    options.add_promises(serving)
    add("--max-examples", type=int, default=64, help="in one request")
    add(
        "--max-bytes",
        type=int,
        # What has no default, its help says itself.
        help="of one request (default: from the model's shape)%(default).0s",
    )
    add("--max-requests", type=int, default=128, help="at a time; then 503")
    add("--timeout", type=float, default=60.0, help="seconds; then 504")
    add(
        "--trust-model",
        action="store_true",
        help="run Python code that the model file brings along, in Lambda "
        "layers; whoever wrote the file may then do anything here",
    )


def run(arguments):
    # Here, since it needs an extra.
    import uvicorn

    from keras_smoothing import serving
    from keras_smoothing.serving.connection import connection

    # Also while a model is loaded, and again when all requests are answered.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listen(arguments))
        model = _model(arguments)
        memory = stack.enter_context(options.memory(arguments))
        service = serving.Service(
            model,
            n0=arguments.n0,
            n=arguments.n,
            alpha=arguments.alpha,
            batch_size=arguments.batch_size,
            sigma=options.data_dependent(arguments, model),
            memory=memory,
        )
        app = serving.create_app(
            service,
            max_examples=arguments.max_examples,
            max_bytes=arguments.max_bytes,
            max_requests=arguments.max_requests,
            timeout=arguments.timeout,
        )
        host, port = listening.getsockname()[:2]
        print(f"serving at http://{host}:{port}", flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            http=connection(
                arguments.timeout, _CONNECTIONS * arguments.max_requests
            ),
            # Headers that say whom a request is from could say anybody.
            proxy_headers=False,
            # Who does not read an answer is not waited for at the end.
            timeout_graceful_shutdown=math.ceil(arguments.timeout),
        )
        uvicorn.Server(config).run(sockets=[listening])


def _model(arguments):
    try:
        return options.smoothed(arguments, arguments.trust_model)
    except (TypeError, ValueError) as error:
        if "safe_mode" not in str(error):
            raise
        raise ValueError(
            "Expected a model file without Python code of its own, or "
            "--trust-model for one from a source that you trust. Received: "
            f"{arguments.model}, which has a Lambda layer"
        ) from error


def _listen(arguments):
    host, port = arguments.host, arguments.port
    if not 0 <= port < 2**16:
        raise ValueError(
            f"Expected --port from 0 to 65535. Received: --port {port}"
        )
    try:
        ((family, *_), *_) = socket.getaddrinfo(host, None)
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"Expected a free port. Received: --host {host} --port {port}, "
            f"and from the system: {error}"
        ) from error
    # Those that it accepts are like it. Or else the system keeps the second
    # part of each answer back until the first is acknowledged: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
