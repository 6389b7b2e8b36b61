"""Certificates over HTTP."""

try:
    import fastapi as _fastapi  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "Serving needs FastAPI, uvicorn and prometheus_client. `pip install "
        "keras_smoothing[serve]` brings them."
    ) from error

from keras_smoothing.serving.create_app import create_app as create_app
from keras_smoothing.serving.service import Service as Service
