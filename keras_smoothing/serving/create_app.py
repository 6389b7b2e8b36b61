import contextlib

import fastapi
import prometheus_client as prometheus
from starlette.exceptions import HTTPException

from keras_smoothing.certificates import checks
from keras_smoothing.serving import schemas
from keras_smoothing.serving.access import Access
from keras_smoothing.serving.batcher import Batcher
from keras_smoothing.serving.gate import Gate
from keras_smoothing.serving.gate import GatedRoute
from keras_smoothing.serving.metrics import Metrics
from keras_smoothing.serving.pages import add_pages
from keras_smoothing.serving.payload import Parser
from keras_smoothing.serving.payload import longest_payload
from keras_smoothing.serving.readiness import Readiness
from keras_smoothing.serving.room import Allowance
from keras_smoothing.version import __version__

_ANSWERS = {
    "certify": (schemas.Certificate, "A class and a certified radius for each"),
    "classify": (schemas.Classification, "A class for each, or an abstention"),
    "predict": (list[float], "The shares of the votes for each class"),
}
_REFUSALS = {
    400: "no JSON, or no header Host",
    401: "no token, where one is needed",
    408: "a body that arrives too slowly",
    413: "more bytes than are read",
    421: "a header Host with the name of another service",
    422: "no such examples",
    429: "too many examples of one address within a minute",
    500: "an error of the model",
    503: "too many requests at a time, a memory that is not to be had, or a "
    "service that shuts down",
    504: "no answer in time",
}


def create_app(
    service,
    *,
    max_examples=64,
    max_bytes=None,
    max_requests=128,
    timeout=60.0,
    max_examples_per_minute=600,
    allowed_hosts=(),
    token=None,
):
    """The service as a web application, for any ASGI server.

    Requests that arrive while the model is busy are answered together, and
    share their draws. An answer does not depend on the rest of the batch,
    except for rounding, and for what a memory promises in the order of arrival.

    - `POST /certify`, `/classify` and, without memory and sigma, `/predict`:
      `{"instances": [...]}` returns `{"predictions": [...]}`, as in TensorFlow
      Serving; or `{"error": "..."}`.
    - `GET /health`: 200 while `/certify` would answer, else 503 and the reason:
      the memory is damaged, locked or gone, the model is stuck, or the service
      is shutting down, that is, `app.state.readiness.is_closing` is True.
    - `GET /model`: a description of the model. `GET /metrics`: metrics for
      Prometheus.
    - `GET /openapi.json`: the API in detail. `/docs` shows it as a page that
      loads nothing from other sites.

    Args:
        service: `Service`.
        max_examples: int, the largest number of examples in one request.
        max_bytes: int, the largest payload in bytes. By default, any
            `max_examples` examples of the model's shape fit, as Python's
            `json` writes them, with 26 bytes for each number.
        max_requests: int, complete requests at a time. When there are more, the
            latest request of the address with the most requests gets 503.
        timeout: float, seconds for one request. After that it gets 504, and is
            dropped unless it has begun.
        max_examples_per_minute: int, with a memory, which grows with each
            example: the largest number of examples from one address within a
            minute. Further requests get 429. The address is that of the
            connection, so all clients behind a proxy share one. None for no
            limit.
        allowed_hosts: list of str, names and addresses that the `Host` header
            may have, in addition to localhost and the address that the
            connection is to; "*" for any. Others get 421. Otherwise a web page
            could point its own name at this service.
        token: str, or None. With a token, requests need the header
            `Authorization: Bearer TOKEN`, except those to `/health`. Others get
            401.

    Returns:
        `fastapi.FastAPI`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import keras_smoothing as ks
    from keras_smoothing import serving

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    app = serving.create_app(serving.Service(model, n=1_000))
    ```
    """
    checks.positive_int("max_examples", max_examples)
    if max_bytes is None:
        max_bytes = longest_payload(service.shape, max_examples)
    checks.positive_int("max_bytes", max_bytes)
    checks.positive_int("max_requests", max_requests)
    checks.positive_float("timeout", timeout)
    allowance = None
    if max_examples_per_minute is not None:
        checks.positive_int("max_examples_per_minute", max_examples_per_minute)
        if service.has_memory:
            allowance = Allowance(max_examples_per_minute)
    metrics = Metrics()
    readiness = Readiness(service, timeout)
    limits = [
        f"At most {max_examples} examples and {max_bytes} bytes in a request, "
        f"{max_requests} requests at a time, {timeout:g} s for each."
    ]
    if allowance is not None:
        limits.append(
            f"At most {max_examples_per_minute} examples of one address within "
            "a minute."
        )
    if token is not None:
        limits.append("All but /health need Authorization: Bearer TOKEN.")
    access = Access(readiness, allowed_hosts, token)
    batcher = Batcher(service.thread, service.window, metrics.on_batch)
    metrics.watch(batcher.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        readiness.is_closing = False
        async with batcher.running():
            yield
            readiness.is_closing = True

    app = fastapi.FastAPI(
        title="keras_smoothing",
        description="Predictions with certified robustness.\n\n"
        + " ".join(limits),
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(access.guard)
    parser = Parser(service, max_examples)
    app.state.readiness = readiness
    app.state.gate = Gate(metrics, parser, max_bytes, max_requests, timeout)
    _add_error_handlers(app)
    gated = fastapi.APIRouter(route_class=GatedRoute)
    json = {"schema": parser.payload.model_json_schema()}
    for name in service.answers:
        answer, summary = _ANSWERS[name]
        gated.add_api_route(
            f"/{name}",
            _endpoint(name, service, batcher, metrics, readiness, allowance),
            methods=["POST"],
            name=name,
            summary=summary,
            response_model=schemas.Predictions[answer],
            responses={
                status: {"model": schemas.Failure, "description": reason}
                for status, reason in _REFUSALS.items()
            },
            openapi_extra={
                "requestBody": {
                    "content": {"application/json": json},
                    "required": True,
                }
            },
        )
    app.include_router(gated)

    @app.get(
        "/health",
        responses={
            503: {"model": schemas.Failure, "description": _REFUSALS[503]}
        },
    )
    async def health() -> schemas.Health:
        """Whether the service answers requests."""
        problem = await readiness.problem()
        if problem is not None:
            raise HTTPException(503, problem, {"Retry-After": "1"})
        return schemas.Health()

    description = service.describe()

    @app.get("/model", responses={200: _example(description)})
    async def model() -> schemas.Description:
        """A description of the model and its settings."""
        return description

    @app.get("/metrics", response_class=fastapi.responses.PlainTextResponse)
    async def page():
        """Metrics for Prometheus."""
        return fastapi.Response(
            metrics.page(), media_type=prometheus.CONTENT_TYPE_LATEST
        )

    add_pages(app, needs_token=token is not None)
    return app


def _example(answer):
    """The OpenAPI entry that shows an answer as an example."""
    example = answer.model_dump(mode="json")
    return {"content": {"application/json": {"example": example}}}


def _endpoint(name, service, batcher, metrics, readiness, allowance):
    async def endpoint(request: fastapi.Request):
        x = request.state.examples
        if allowance is not None:
            allowance.take(request.client, len(x))
        try:
            answers = await batcher.ask(service.answers[name], x)
        except (OSError, ValueError) as error:
            # The examples were checked before, so the memory has failed.
            if not service.has_memory:
                raise
            raise HTTPException(
                503, readiness.on_failure(error), {"Retry-After": "1"}
            ) from error
        readiness.on_answers()
        abstentions = sum(getattr(a, "abstained", False) for a in answers)
        metrics.on_answers(f"/{name}", len(answers), abstentions)
        return {"predictions": answers}

    return endpoint


def _add_error_handlers(app):
    def failure(status, sentence, headers=None):
        return fastapi.responses.JSONResponse(
            {"error": sentence}, status, headers
        )

    @app.exception_handler(HTTPException)
    async def refuse(_, error):
        return failure(error.status_code, error.detail, error.headers)

    @app.exception_handler(Exception)
    async def fail(*_):
        # The server logs the error, and closes the connection.
        return failure(
            500,
            "Expected an answer of the model. Received: an error, which the "
            "log of this service tells",
            {"Connection": "close"},
        )
