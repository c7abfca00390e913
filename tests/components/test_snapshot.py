"""A snapshot's asset: replaced by the newest file, left alone otherwise."""

from pathlib import Path

import dagster as dg

from scale_assets.components.snapshot import Snapshot
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource
from tests.ingest.test_snapshots import CONTRACT


def test_a_refused_copy_fails_and_leaves_the_table(tmp_path: Path) -> None:
    (tmp_path / "sites.odcs.yaml").write_text(CONTRACT)
    folder = tmp_path / "sites"
    folder.mkdir()
    snapshot = Snapshot.from_attributes_dict(
        attributes={
            "name": "sites",
            "contract": str(tmp_path / "sites.odcs.yaml"),
            "transport": {"type": "files", "path": str(folder)},
        }
    )
    assets = list(snapshot.build_defs(dg.ComponentTree.for_test().load_context).assets or [])
    resources = {"lake": LakeResource(root=str(tmp_path / "lake")), "settings": SettingsResource()}

    (folder / "1.jsonl").write_text('{"site_id": 1}\n{"site_id": 2}\n')
    first = dg.materialize(assets, resources=resources)
    (folder / "2.jsonl").write_text('{"site_id": "two"}\n')
    second = dg.materialize(assets, resources=resources, raise_on_error=False)

    checks = {e.check_name: e.passed for e in first.get_asset_check_evaluations()}
    assert checks == {"row_count_is_plausible": True, "columns_are_unchanged": True}
    assert not second.success
    assert Lake(tmp_path / "lake").num_rows("raw/sites") == 2
