"""The skew gate of a release: its budget in YAML, its check in the UI, its refusal in words."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, field_validator

from scale_assets.features.repo import ViewDeclaration

if TYPE_CHECKING:
    from scale_assets.features.skew.report import FeatureSkew, SkewReport
    from scale_assets.lake import Lake
    from scale_assets.settings import Settings

CHECK = "agrees_with_the_lake"
MAX_NAMED = 5


class Skew(dg.Resolvable, dg.Model):
    """How far what was served may differ from what the lake says of the same instant."""

    budget: float = Field(
        ge=0,
        lt=1,
        description="Share of a feature's served values that may disagree with the lake, 0 to 1; "
        "the worst feature decides.",
        examples=[0.001],
    )
    days: float = Field(
        default=28, gt=0, description="How far back served vectors are compared, in days."
    )
    since: str | None = Field(
        default=None,
        description="Instant (ISO 8601) before which they are not: when a fault was mended.",
        examples=["2026-11-27T22:00:00Z"],
    )

    @field_validator("since")
    @classmethod
    def _is_an_instant(cls, value: str | None) -> str | None:
        if value is not None and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError(f"since is {value!r}; say which time zone, such as {value}Z")
        return value

    def start(self, now: datetime) -> datetime:
        """The earliest vector that counts."""
        window = now - timedelta(days=self.days)
        return window if self.since is None else max(window, datetime.fromisoformat(self.since))


def check_spec(asset: dg.AssetKey, skew: Skew) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        CHECK,
        asset=asset,
        blocking=True,
        description=f"Of no feature more than {skew.budget:.2%} of the values served in the last "
        f"{skew.days:g} days differ from the lake's as of when they were served; else nothing is "
        "released.",
    )


def measure(
    skew: Skew,
    lake: "Lake",
    settings: "Settings",
    *,
    model: str,
    views: Sequence[ViewDeclaration],
    inputs: Mapping[str, tuple[str, str]],
) -> "SkewReport":
    """What was served of ``views`` to this model's answers, beside the lake."""
    from scale_assets.features.skew.compare import ServedModel, compare_served

    return compare_served(
        lake,
        settings.vectors_dir,
        ServedModel(name=model, views=views, inputs=inputs),
        since=skew.start(datetime.now(UTC)),
    )


def check_result(asset: dg.AssetKey, skew: Skew, report: "SkewReport") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=CHECK,
        passed=not report.over(skew.budget),
        metadata=_metadata(skew, report),
    )


def refusal(skew: Skew, report: "SkewReport", *, model: str, version: str, folder: str) -> str:
    """Why ``version`` is not released, and the ways out."""
    over = report.over(skew.budget)
    named = "; ".join(each.sentence() for each in over[:MAX_NAMED])
    after = datetime.now(UTC) + timedelta(seconds=1)  # in whole seconds, yet after every vector
    more = f"; and {len(over) - MAX_NAMED} more" if len(over) > MAX_NAMED else ""
    return (
        f"{model} {version} is not released, the present release goes on serving: in "
        f"{report.num_vectors:,} served vectors {len(over)} of {len(report.features)} features "
        f"disagree with the lake beyond the budget of {skew.budget:.2%}: {named}{more}. The check "
        f"{CHECK} shows examples, by line of {folder}. Mend the cause (`scale load --rebuild` makes "
        "the online values anew), then leave out what was served before: skew.since: "
        f'"{after:%Y-%m-%dT%H:%M:%SZ}"'
    )


def _metadata(skew: Skew, report: "SkewReport") -> dict[str, Any]:
    said: dict[str, Any] = {"budget": skew.budget, "num_vectors": report.num_vectors}
    if report.num_torn_lines:
        said["num_torn_lines"] = report.num_torn_lines
    if not report.num_vectors:
        return said | {"nothing to compare": "no vector was logged for this model since then"}
    assert report.first_served is not None
    assert report.last_served is not None
    said |= {
        "first_served": dg.MetadataValue.timestamp(report.first_served),
        "last_served": dg.MetadataValue.timestamp(report.last_served),
        "num_values": sum(each.num_compared for each in report.features),
        "num_features": len(report.features),
        "worst_share": max(each.share for each in report.features),
        "versions": dict(report.versions),
    }
    if report.not_compared:
        said["inputs of other releases, not compared"] = dict(report.not_compared)
    if report.other_layouts:
        said["views read in another layout"] = dict(report.other_layouts)
    if report.not_told:
        said["replaced in the lake since, not compared"] = dict(report.not_told)
    if disagreeing := report.over(0):
        said["features"] = _features(disagreeing)
        said["examples"] = _examples(disagreeing)
    return said


def _features(found: "Sequence[FeatureSkew]") -> dg.MetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "feature": each.name,
                    "share": round(each.share, 6),
                    "equal": each.equal,
                    "different": each.different,
                    "missing": each.missing,
                    "extra": each.extra,
                }
            )
            for each in found
        ]
    )


def _examples(found: "Sequence[FeatureSkew]") -> dg.MetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "feature": each.name,
                    "verdict": example.verdict,
                    "served (texts and lists masked)": example.served or "",
                    "lake": example.lake or "",
                    "version": example.version,
                    "line": example.place,
                }
            )
            for each in found
            for example in each.examples
        ]
    )
