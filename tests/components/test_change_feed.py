"""A change feed's assets: the changes, what is current, what was, and their checks."""

from pathlib import Path

import dagster as dg
import pytest

from scale_assets.components.change_feed import ChangeFeed
from scale_assets.ingest.changes import ChangeFeed as Changes
from scale_assets.ingest.file_source import FilesSource
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource
from tests.ingest.test_changes import CHANGES, CONTRACT, change, write


def component(folder: Path, **others: object) -> ChangeFeed:
    (folder / "plans.odcs.yaml").write_text(CONTRACT)
    attributes = {
        "name": "plans",
        "contract": str(folder / "plans.odcs.yaml"),
        "transport": {"type": "files", "path": str(folder / "plans")},
        "key": ["plan_id"],
    }
    return ChangeFeed.from_attributes_dict(attributes=attributes | others)


def test_materializing_twice_derives_once(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    feed = Changes(
        name="plans",
        source=FilesSource(tmp_path / "plans"),
        contract_path=tmp_path / "plans.odcs.yaml",
        table="raw/plans_changes",
        quarantine_table="raw/plans_quarantine",
    )
    write(feed, "1.jsonl", [*CHANGES, change("u", 1, "dear", lsn=9, day=9)])  # type: ignore[arg-type]
    definitions = component(tmp_path).build_defs(dg.ComponentTree.for_test().load_context)
    resources = {"lake": LakeResource(root=str(tmp_path / "lake")), "settings": SettingsResource()}
    assets = list(definitions.assets or [])

    def materialize() -> dg.ExecuteInProcessResult:
        return dg.materialize(assets, resources=resources)

    first, again = materialize(), materialize()

    lake = Lake(tmp_path / "lake")
    assert (lake.num_rows("plans"), lake.num_rows("plans_history")) == (2, 8)
    checks = {e.check_name: e.passed for e in first.get_asset_check_evaluations()}
    assert checks == {"every_change_is_accounted_for": True, "quarantine_within_limit": False}
    rewritten = [
        result.asset_materializations_for_node("plans")[0].metadata["is_rewritten"].value
        for result in (first, again)
    ]
    assert rewritten == [True, False]


def test_a_key_that_is_not_the_contracts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="is not the primary key"):
        component(tmp_path, key=["price"]).build_defs(dg.ComponentTree.for_test().load_context)
