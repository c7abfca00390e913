"""The YAML vocabulary is a public surface: frozen, described, and unknown keys are refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from scale_assets import components

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "wikipedia"
DG = str(Path(sys.executable).with_name("dg"))
SHOWN = {"description", "group", "owners"}
STREAM = {
    *("name", "contract", "transport", "compatibility", "max_quarantined_fraction", "sensor"),
    *SHOWN,
}
VOCABULARY = {
    "ChangeFeed": {*STREAM, "key"},
    "DatabaseCapture": {
        *("name", "connection", "slot", "publication", "tables", "max_quarantined_fraction"),
        *("max_batch_mib", "simulated_clock", "sensor", "group", "owners"),
    },
    "EventStream": {
        *(*STREAM, "key", "event_time", "calendar", "dedup_horizon_days", "max_batch_mib"),
    },
    "FeatureViews": {"repo", "clock", "max_age_days", "group", "owners"},
    "Monitor": {
        *("name", "feature_views", "views", "table", "reference", "current", "window_days"),
        *("aligned_by", "min_entities", "psi", "null_share", "overrides", "unjudged", "severity"),
        *("group", "owners"),
    },
    "Release": {
        *("name", "alias", "feature_service", "repo", "inputs", "fallback", "skew"),
        *("group", "owners", "schedule"),
    },
    "Snapshot": {*STREAM, "min_row_ratio"},
    "SparkTable": {
        *("table", "function", "inputs", "params", "grain", "key", "partition_by", "calendar"),
        *(*SHOWN, "automation_condition"),
    },
    "TrainedModel": {"name", "dataset", "candidates", "gate", "schedule", *SHOWN},
    "TrainingSet": {
        *("name", "feature_service", "repo", "tabular", "sequence", "forbidden", "evaluation"),
        *SHOWN,
    },
    "WarehouseModels": {
        *("project", "select", "calendar", "daily_tag", "published_tag", "source_schema"),
        *("groups", "owners"),
    },
}


@pytest.mark.parametrize("name", sorted({*VOCABULARY, *components.__all__}))
def test_a_component_keeps_its_attributes(name: str) -> None:
    declared = getattr(components, name).model_fields

    assert set(declared) == VOCABULARY.get(name)


@pytest.mark.parametrize("name", sorted(VOCABULARY))
def test_every_attribute_is_described(name: str) -> None:
    undescribed = [
        attribute
        for attribute, field in getattr(components, name).model_fields.items()
        if not (field.description or any(describes(extra) for extra in field.metadata))
    ]

    assert undescribed == []


def describes(extra: object) -> bool:
    """A value that YAML writes differently than Python holds it is described at its resolver."""
    return isinstance(extra, dg.Resolver) and bool(extra.description)


@pytest.mark.timeout(600)
def test_dg_lists_every_component_with_a_sentence() -> None:
    listed = subprocess.run(
        [DG, "list", "components", "--package", "scale_assets", "--json"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        check=True,
    )

    summaries = {item["key"]: item["summary"] for item in json.loads(listed.stdout)["items"]}
    assert set(summaries) == {f"scale_assets.components.{name}" for name in VOCABULARY}
    assert [key for key, summary in summaries.items() if not (summary or "").strip()] == []


@pytest.mark.timeout(600)
def test_dg_refuses_an_unknown_key_at_its_line(tmp_path: Path) -> None:
    project = tmp_path / "wikipedia"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns(".*"))
    declaration = project / "wikipedia" / "defs" / "edits" / "defs.yaml"
    text = declaration.read_text().replace("  event_time: time", "  evnt_time: time")
    declaration.write_text(text)
    line = text.splitlines().index("  evnt_time: time") + 1

    checked = subprocess.run(
        [DG, "check", "yaml"], cwd=project, capture_output=True, text=True, check=False
    )

    said = checked.stdout + checked.stderr
    assert checked.returncode == 1
    assert f"defs.yaml:{line}" in said
    assert "evnt_time" in said
