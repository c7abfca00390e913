"""POST /v1/predict/{model}: the probabilities of one entity, from its online features."""

import msgspec
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from serving.errors import Problem
from serving.features import Lookup, OnlineFeatures
from serving.release import Release
from serving.schemas import PredictRequest, PredictResponse
from serving.vectors import VectorLog

decode = msgspec.json.Decoder(PredictRequest).decode
encode = msgspec.json.Encoder().encode


async def predict(request: Request) -> Response:
    """400: the body is not JSON. 404: no such model, or nothing known. 422: a wrong field."""
    query = decode(await request.body())
    release = tabular_release(request, request.path_params["model"])
    answer = await run_in_threadpool(
        answer_prediction, request.app.state.features, release, query, request.app.state.vectors
    )
    request.app.state.metrics.served(release.manifest.model, answer.features)
    return Response(encode(answer), media_type="application/json")


def tabular_release(request: Request, model: str) -> Release:
    release: Release | None = request.app.state.releases.get(model)
    if release is None or release.manifest.kind != "tabular":
        releases = request.app.state.releases
        names = [name for name in releases.names() if releases.get(name).manifest.kind == "tabular"]
        raise Problem(404, f"model is {model!r}; this route serves {', '.join(names) or 'none'}")
    return release


def answer_prediction(
    features: OnlineFeatures,
    release: Release,
    query: PredictRequest,
    vectors: VectorLog | None = None,
) -> PredictResponse:
    """The answer; what it was made from is offered to ``vectors``."""
    manifest = release.manifest
    found = features.lookup(manifest, list(manifest.views), query.registration_id)
    if found.state == "default" and "default" not in manifest.fallback:
        raise Problem(
            404,
            f"registration_id is {query.registration_id!r}: the online store holds no features of "
            "it, and this release declares no default",
        )
    inputs = model_inputs(release, found)
    probabilities_BT = release.score(inputs)["probabilities"]
    if vectors is not None:
        vectors.offer(query.registration_id, manifest, [found], inputs)
    return PredictResponse(
        registration_id=query.registration_id,
        probabilities={
            name: float(value)
            for name, value in zip(manifest.outputs, probabilities_BT[0], strict=True)
        },
        features=found.state,  # type: ignore[arg-type]
        feature_time=found.feature_time.isoformat() if found.feature_time else None,
        model=manifest.model,
        version=manifest.version,
    )


def model_inputs(release: Release, found: Lookup) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """One row: unknown numbers are NaN, unknown categories empty; the graph handles both."""
    manifest = release.manifest
    numbers = [found.value(each.view, each.feature) for each in manifest.numeric]
    categories = [found.value(each.view, each.feature) for each in manifest.categorical]
    return {
        "numeric": np.array(
            [[np.nan if value is None else value for value in numbers]], dtype=np.float32
        ),
        "categorical": np.array(
            [["" if value is None else str(value) for value in categories]], dtype=object
        ),
    }
