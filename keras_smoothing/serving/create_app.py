import contextlib
import logging

import fastapi
import prometheus_client as prometheus
from starlette.exceptions import HTTPException

from keras_smoothing import checks
from keras_smoothing.serving import schemas
from keras_smoothing.serving.batcher import Batcher
from keras_smoothing.serving.gate import Gate
from keras_smoothing.serving.gate import GatedRoute
from keras_smoothing.serving.metrics import Metrics
from keras_smoothing.serving.parser import Parser
from keras_smoothing.serving.parser import longest_payload
from keras_smoothing.version import __version__

_log = logging.getLogger(__name__)

_ANSWERS = {
    "certify": (schemas.Certificate, "A class and a certified radius for each"),
    "classify": (schemas.Classification, "A class for each, or an abstention"),
    "predict": (list[float], "The shares of the votes for each class"),
}
_REFUSALS = {
    400: "no JSON",
    408: "a body that arrives too slowly",
    413: "more bytes than are read",
    422: "no such examples",
    503: "too many requests at a time, or a memory that is not to be had",
    504: "no answer in time",
}


def create_app(
    service,
    *,
    max_examples=64,
    max_bytes=None,
    max_requests=128,
    timeout=60.0,
):
    """The service as a web application, for any ASGI server.

    Requests that arrive while the model is busy are answered together, and
    share their draws. No answer depends on what else is in the batch, but for
    rounding, and for what a memory promises in the order of arrival.

    - `POST /certify`, `/classify` and, without memory and sigma, `/predict`:
      `{"instances": [...]}` gives `{"predictions": [...]}`, as in TensorFlow
      Serving; or `{"error": "..."}`.
    - `GET /health`: 200 as soon as there is an answer at all, since a service
      is compiled before.
    - `GET /model`: what is served. `GET /metrics`: for Prometheus.
    - `GET /openapi.json`: all of this in detail, and `/docs` for reading it.

    Args:
        service: `Service`.
        max_examples: int, the most examples of one request.
        max_bytes: int, the largest payload that is read. By default any
            `max_examples` examples of the model's shape fit, as Python's
            `json` writes them: 26 bytes a number.
        max_requests: int, complete requests at a time. Further ones get 503:
            the latest of the address that has most of them.
        timeout: float, seconds for one request. After that it gets 504, and is
            dropped unless it has begun.

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
    metrics = Metrics()
    batcher = Batcher(service.thread, service.window, metrics.on_batch)
    metrics.watch(batcher.waiting)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with batcher.running():
            yield

    app = fastapi.FastAPI(
        title="keras_smoothing",
        description="Predictions with certified robustness.",
        version=__version__,
        lifespan=lifespan,
    )
    parser = Parser(service, max_examples)
    app.state.gate = Gate(metrics, parser, max_bytes, max_requests, timeout)
    _add_error_handlers(app)
    gated = fastapi.APIRouter(route_class=GatedRoute)
    json = {"schema": parser.payload.model_json_schema()}
    for name in service.answers:
        answer, summary = _ANSWERS[name]
        gated.add_api_route(
            f"/{name}",
            _endpoint(name, service, batcher, metrics),
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

    @app.get("/health")
    async def health() -> schemas.Health:
        """Whether requests are answered."""
        return schemas.Health()

    @app.get("/model")
    async def model() -> schemas.Description:
        """What is served."""
        return description

    @app.get("/metrics", response_class=fastapi.responses.PlainTextResponse)
    async def page():
        """What has happened, for Prometheus."""
        return fastapi.Response(
            metrics.page(), media_type=prometheus.CONTENT_TYPE_LATEST
        )

    description = service.describe()
    return app


def _endpoint(name, service, batcher, metrics):
    async def endpoint(request: fastapi.Request):
        x = request.state.examples
        try:
            answers = await batcher.ask(service.answers[name], x)
        except OSError as error:
            _log.error("%s", error)
            raise HTTPException(
                503,
                "Expected a memory that can be read and written. Received: "
                f"{type(error).__name__}. Nothing was promised; try again.",
                {"Retry-After": "1"},
            ) from error
        abstentions = sum(getattr(a, "abstained", False) for a in answers)
        metrics.on_answers(f"/{name}", len(answers), abstentions)
        return {"predictions": answers}

    return endpoint


def _add_error_handlers(app):
    @app.exception_handler(HTTPException)
    async def refuse(_, error):
        return fastapi.responses.JSONResponse(
            {"error": error.detail}, error.status_code, error.headers
        )
