"""POST /v1/recommend: the sites that a student will open next, best first."""

from typing import Any

import msgspec
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from serving.errors import Problem
from serving.features import Lookup, OnlineFeatures
from serving.release import Manifest, Release
from serving.schemas import RecommendRequest, RecommendResponse
from serving.vectors import Inputs, VectorLog

MODEL = "next_site"
HISTORY = "registration_history"
CATALOGUE = "presentation_sites"
POPULARITY = "students_7d"
ONNX_DTYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(string)": object}

decode = msgspec.json.Decoder(RecommendRequest).decode
encode = msgspec.json.Encoder().encode


async def recommend(request: Request) -> Response:
    """400: the body is not JSON. 404: nothing known of this student. 422: a wrong field."""
    query = decode(await request.body())
    release: Release | None = request.app.state.releases.get(MODEL)
    if release is None:
        raise Problem(404, f"no release of {MODEL!r}; materialize one first")
    answer = await run_in_threadpool(
        answer_recommendation,
        request.app.state.features,
        release,
        query,
        request.app.state.vectors,
    )
    request.app.state.metrics.served(MODEL, answer.features)
    return Response(encode(answer), media_type="application/json")


def answer_recommendation(
    features: OnlineFeatures,
    release: Release,
    query: RecommendRequest,
    vectors: VectorLog | None = None,
) -> RecommendResponse:
    """The answer; what it was made from is offered to ``vectors``."""
    manifest = release.manifest
    history = features.lookup(manifest, [HISTORY], query.registration_id)
    presentation_id = history.value(HISTORY, "presentation_id") or query.presentation_id
    if presentation_id is None:
        raise Problem(
            404,
            f"registration_id is {query.registration_id!r}: the online store holds no history of "
            "it; send presentation_id too and the most popular sites are the answer",
        )
    catalogue = features.lookup(manifest, [CATALOGUE], presentation_id)
    site_ids = catalogue.value(CATALOGUE, "site_ids")
    if site_ids is None:
        raise Problem(
            404, f"presentation_id is {presentation_id!r}: the online store has no sites of it"
        )
    scores, state, inputs = _scores(release, history, catalogue)
    if vectors is not None:
        vectors.offer(query.registration_id, manifest, [history, catalogue], inputs)
    if query.list == "discovery":
        opened = history.value(HISTORY, "site_ids")
        new = ~np.isin(site_ids, [] if opened is None else opened)
        site_ids, scores = site_ids[new], scores[new]
    best = np.argsort(-scores, kind="stable")[: query.k]
    return RecommendResponse(
        registration_id=query.registration_id,
        site_ids=[int(site) for site in site_ids[best]],
        scores=[float(score) for score in scores[best]],
        features=state,  # type: ignore[arg-type]
        feature_time=history.feature_time.isoformat() if history.feature_time else None,
        model=manifest.model,
        version=manifest.version,
    )


def _scores(
    release: Release, history: Lookup, catalogue: Lookup
) -> "tuple[np.ndarray[Any, Any], str, Inputs]":
    """Scores (C,) of the catalogue's sites, their state, and what they were made from.

    They are the model's, or popularity without a history.
    """
    if history.state == "default":
        if "popular" not in release.manifest.fallback:
            raise Problem(404, "no history of this student, and the release declares no fallback")
        scores = np.asarray(catalogue.value(CATALOGUE, POPULARITY), dtype=np.float32)
        return scores, "popular", popular_inputs(release.manifest, scores)
    inputs = ranking_inputs(release.manifest, release.input_types, history, catalogue)
    return release.score(inputs)["scores"][0], history.state, inputs


def popular_inputs(manifest: Manifest, scores: "np.ndarray[Any, Any]") -> Inputs:
    """What stood for the model's inputs: popularity, and nothing where a history belongs."""
    return {
        source.name: None if source.view == HISTORY else scores[None]
        for source in manifest.inputs
        if source.view == HISTORY or (source.view, source.feature) == (CATALOGUE, POPULARITY)
    }


def ranking_inputs(
    manifest: Manifest, types: dict[str, str], history: Lookup, catalogue: Lookup
) -> "dict[str, np.ndarray[Any, Any]]":
    """A batch of one, as the release maps its inputs to features; no other preprocessing."""
    by_view = {HISTORY: history, CATALOGUE: catalogue}
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    for source in manifest.inputs:
        value = by_view[source.view].value(source.view, source.feature)
        inputs[source.name] = np.asarray(value, dtype=ONNX_DTYPES[types[source.name]])[None]
    return inputs
