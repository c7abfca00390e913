"""The ASGI application: routes, error mapping and the state that requests share."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scale_assets.features.reader import OnlineReader, OnlineStoreError
from serving.bodies import BodyLimit
from serving.errors import Problem, problem
from serving.features import OnlineFeatures
from serving.metrics import Metrics, metrics
from serving.openapi import docs, openapi
from serving.predict import predict
from serving.recommend import MODEL as RECOMMENDER
from serving.recommend import recommend
from serving.release import Manifest, Releases
from serving.vector_sample import VectorSample

MAX_BODY_BYTES = 64 * 1024
RETRY_AFTER_S = "1"

log = logging.getLogger("serving")


def create_app(
    *, releases_dir: Path, online_store: OnlineReader, sample: VectorSample | None = None
) -> Starlette:
    """The application over one folder of releases and one online store.

    What it serves to the entities of ``sample`` is logged.

    Raises:
        ServingError: There is no release, or one cannot be read.
    """
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/predict/{model}", predict, methods=["POST"]),
            Route("/v1/recommend", recommend, methods=["POST"]),
            Route("/v2/health/live", live),
            Route("/v2/health/ready", ready),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
        ],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=observe),
            Middleware(BodyLimit, max_bytes=MAX_BODY_BYTES),
        ],
        exception_handlers={
            Problem: _on_problem,
            msgspec.ValidationError: _on_invalid,
            msgspec.DecodeError: _on_malformed,
            UnicodeDecodeError: _on_malformed,
            HTTPException: _on_http,
            OnlineStoreError: _on_store,
        },
    )
    app.state.releases = Releases(releases_dir)
    app.state.features = OnlineFeatures(online_store)
    app.state.metrics = Metrics()
    app.state.vectors = None if sample is None else sample.log(app.state.metrics.logged)
    return app


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """What was served is on the disk before the process ends."""
    yield
    if app.state.vectors is not None:
        await run_in_threadpool(app.state.vectors.close)


def route_of(manifest: Manifest) -> str | None:
    """The route that answers from this release, if one does."""
    if manifest.kind == "tabular":
        return f"/v1/predict/{manifest.model}"
    return "/v1/recommend" if manifest.model == RECOMMENDER else None


async def live(_: Request) -> JSONResponse:
    return JSONResponse({"live": True})


async def ready(request: Request) -> JSONResponse:
    versions = {
        name: request.app.state.releases.get(name).manifest.version
        for name in request.app.state.releases.names()
    }
    return JSONResponse({"ready": True, "models": versions})


async def observe(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Count and time every request."""
    started = time.perf_counter()
    response = await call_next(request)
    route = request.scope.get("route")
    label = route.path if isinstance(route, Route) else "unmatched"
    request.app.state.metrics.requests.labels(label, str(response.status_code)).inc()
    request.app.state.metrics.latency.labels(label).observe(time.perf_counter() - started)
    return response


def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem(error.status, error.detail)


def _on_http(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    assert isinstance(error, HTTPException)
    answer = problem(
        error.status_code, f"{request.method} {request.url.path} is no route; GET /docs lists them"
    )
    answer.headers.update(error.headers or {})
    return answer


def _on_store(request: Request, error: Exception) -> Response:
    """The address, and what is wrong with it, is for whoever runs the server."""
    log.error("%s: %s", request.url.path, error)
    answer = problem(503, "the online store does not answer; ask again later")
    answer.headers["Retry-After"] = RETRY_AFTER_S
    return answer


def _on_invalid(_: Request, error: Exception) -> Response:
    return problem(422, str(error))


def _on_malformed(_: Request, error: Exception) -> Response:
    return problem(400, f"the body is not JSON: {error}")
