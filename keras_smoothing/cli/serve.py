import argparse
import contextlib
import logging
import math
import signal
import socket
import sys

from keras_smoothing.cli import options
from keras_smoothing.cli.terminal import printable
from keras_smoothing.cli.terminal import show

# Connections for each request at a time, including idle and sending ones.
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
        # There is no fixed default, so the help text describes it.
        help="of one request (default: from the model's shape)%(default).0s",
    )
    add("--max-requests", type=int, default=128, help="at a time; then 503")
    add("--timeout", type=float, default=60.0, help="seconds; then 504")
    add(
        "--max-examples-per-minute",
        type=int,
        default=600,
        help="of one address, where there is a --memory, which grows by them; "
        "then 429; 0 for any number",
    )
    add(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address by which clients know this service, beside "
        "localhost and its own; again for each further one; * for any",
    )
    add(
        "--token-file",
        metavar="FILE",
        help="with a token that requests need in the header Authorization: "
        "Bearer TOKEN, all but those to /health; for its owner only",
    )
    add(
        "--trust-model",
        action="store_true",
        help="run Python code that the model file brings along, in Lambda "
        "layers; whoever wrote the file may then do anything here",
    )


def run(arguments):
    # Imported here, since it needs an extra.
    from keras_smoothing import serving
    from keras_smoothing.serving.access import read_token

    # For a signal while a model loads, or after all requests are answered.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    token = None
    if arguments.token_file is not None:
        token = read_token(arguments.token_file)
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
            max_examples_per_minute=arguments.max_examples_per_minute or None,
            allowed_hosts=_names(arguments),
            token=token,
        )
        host, port = listening.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        show(f"serving at http://{host}:{port}")
        _serve(app, listening, arguments)


def _serve(app, listening, arguments):
    import uvicorn

    from keras_smoothing.serving.connection import connection

    class Server(uvicorn.Server):
        def handle_exit(self, sig, frame):
            # Close now, not when the server checks next: until then it accepts
            # connections, and open ones may send further requests.
            app.state.readiness.is_closing = True
            super().handle_exit(sig, frame)

    _log_to_terminal()
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=connection(
            arguments.timeout, _CONNECTIONS * arguments.max_requests
        ),
        # Anybody could claim another address in a header.
        proxy_headers=False,
        # At shutdown, do not wait for clients that do not read their answer.
        timeout_graceful_shutdown=math.ceil(arguments.timeout),
    )
    Server(config).run(sockets=[listening])


def _names(arguments):
    """Host names by which clients may address the service."""
    unspecific = ("", "0.0.0.0", "::")  # All addresses of the machine.
    return [
        *arguments.allowed_host,
        *([] if arguments.host in unspecific else [arguments.host]),
    ]


class _Formatter(logging.Formatter):
    """One line for each message, even with text from outside."""

    def formatMessage(self, record):
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei):
        return printable(super().formatException(ei), lines=True)


def _log_to_terminal():
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Formatter("%(asctime)s keras-smoothing: %(levelname)s: %(message)s")
    )
    for name in ("keras_smoothing", "uvicorn"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.handlers = [handler]


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
    # Accepted connections inherit this. Otherwise the system would hold back
    # the second part of each answer until the first is acknowledged: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
