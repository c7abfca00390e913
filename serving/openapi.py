"""GET /openapi.json, derived from the request and response types, and GET /docs."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse

from serving.schemas import (
    PredictRequest,
    PredictResponse,
    RecommendRequest,
    RecommendResponse,
)

PROBLEMS = {
    "400": "The body is not JSON.",
    "404": "The model or the entity is not known.",
    "422": "The body is JSON, but a field is missing, unknown or out of range.",
    "503": "The online store does not answer; ask again after Retry-After seconds.",
}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 description of every route."""
    types = [PredictRequest, PredictResponse, RecommendRequest, RecommendResponse]
    refs, schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schema = dict(zip(types, refs, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {"title": "scale-assets predictions", "version": "1"},
        "paths": {
            "/v1/predict/{model}": {
                "post": _operation(
                    "Probabilities of one entity",
                    schema[PredictRequest],
                    schema[PredictResponse],
                    parameters=[
                        {
                            "name": "model",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string"},
                        }
                    ],
                )
            },
            "/v1/recommend": {
                "post": _operation(
                    "Sites to open next, best first",
                    schema[RecommendRequest],
                    schema[RecommendResponse],
                )
            },
            "/v2/health/live": {"get": _probe("The process answers")},
            "/v2/health/ready": {"get": _probe("Releases and features are loaded")},
            "/metrics": {"get": _probe("Prometheus metrics")},
        },
        "components": {"schemas": schemas},
    }


def _operation(
    summary: str,
    request: dict[str, Any],
    response: dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "summary": summary,
        **({"parameters": parameters} if parameters else {}),
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": response}}},
            **{
                status: {"description": text, "content": {"application/problem+json": {}}}
                for status, text in PROBLEMS.items()
            },
        },
    }


def _probe(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary}}}


async def openapi(_: Request) -> JSONResponse:
    return JSONResponse(document())


async def docs(_: Request) -> HTMLResponse:
    """The routes on one page, without a script from elsewhere."""
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{path}</code></td>"
        f"<td>{operation['summary']}</td></tr>"
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    )
    return HTMLResponse(
        "<!doctype html><meta charset=utf-8><title>scale-assets predictions</title>"
        "<style>body{font:16px system-ui;margin:3rem}td{padding:.3rem 1.5rem .3rem 0}</style>"
        f"<h1>scale-assets predictions</h1><table>{rows}</table>"
        '<p>Machine-readable: <a href="/openapi.json">/openapi.json</a></p>'
    )
