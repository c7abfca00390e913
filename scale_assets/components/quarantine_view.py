"""A quarantine as Dagster's UI shows it: tables of reasons and of masked samples."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from scale_assets.contracts import Contract

if TYPE_CHECKING:
    from scale_assets.ingest.quarantine import Summary
    from scale_assets.ingest.revalidate import RevalidationReport
    from scale_assets.lake import Lake

REPLAY = "First move the quarantined lines that the contract accepts by now."
MetadataValues = dict[str, dg.MetadataValue]


class ReplayConfig(dg.Config):
    """What a run of an ingest asset can be asked to do besides reading on."""

    replay_quarantine: bool = Field(
        default=False,
        description=REPLAY,
    )


def quarantine_metadata(lake: "Lake", contract: Contract, table: str) -> MetadataValues:
    """Entries for a materialization: how many lines lie there, why, and what they look like."""
    from scale_assets.ingest.quarantine import summarize

    summary = summarize(contract, lake.open(table))
    if not summary.num_lines:
        return {"in_quarantine": dg.MetadataValue.int(0)}
    return {
        "in_quarantine": dg.MetadataValue.int(summary.num_lines),
        "quarantine_reasons": _reasons(summary),
        "quarantine_samples": _samples(summary),
    }


def replay_metadata(report: "RevalidationReport | None") -> MetadataValues:
    """What a replay of the quarantine came to, if the run was asked for one."""
    if report is None:
        return {}
    return {
        "replay_examined": dg.MetadataValue.int(report.num_examined),
        "replay_accepted": dg.MetadataValue.int(report.num_accepted),
        "replay_duplicates": dg.MetadataValue.int(report.num_duplicates),
    }


def replay_lines(said: Mapping[str, Any]) -> Iterator[str]:
    """What a materialization says of a replay, in words."""
    if "replay_examined" in said:
        yield (
            f"{said['replay_examined']} quarantined lines read again: "
            f"{said['replay_accepted']} accepted, {said['replay_duplicates']} were duplicates"
        )


def _reasons(summary: "Summary") -> dg.MetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "rule": reason.rule,
                    "field": reason.field or "",
                    "lines": reason.num_lines,
                    "contract": ", ".join(reason.contract_versions),
                }
            )
            for reason in summary.reasons
        ]
    )


def _samples(summary: "Summary") -> dg.MetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "rule": sample.rule,
                    "field": sample.field or "",
                    "at (positions from 0)": f"{sample.place} {sample.position}",
                    "line (personal and unknown values masked)": sample.masked,
                }
            )
            for sample in summary.samples
        ]
    )
