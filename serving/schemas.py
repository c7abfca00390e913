"""Requests and answers of the entity-level routes."""

from typing import Annotated, Literal

import msgspec

RegistrationId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Source = Literal["fresh", "stale", "default", "popular"]


class PredictRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which registration to score."""

    registration_id: RegistrationId


class PredictResponse(msgspec.Struct, frozen=True):
    """Probabilities by label, and what they rest on."""

    registration_id: str
    probabilities: dict[str, float]
    features: Source
    feature_time: str | None
    model: str
    version: str


class RecommendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose next sites, how many, and whether sites opened before may be among them."""

    registration_id: RegistrationId
    k: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    list: Literal["all", "discovery"] = "all"
    presentation_id: RegistrationId | None = None


class RecommendResponse(msgspec.Struct, frozen=True):
    """Site identifiers, best first, with the scores that ordered them."""

    registration_id: str
    site_ids: list[int]
    scores: list[float]
    features: Source
    feature_time: str | None
    model: str
    version: str
