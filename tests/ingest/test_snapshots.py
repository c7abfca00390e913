"""A table shows one whole snapshot, and only a sound one."""

import json
from pathlib import Path

import pytest

from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.snapshots import SnapshotFeed, ingest_snapshot
from scale_assets.ingest.suppression import SuppressionList
from scale_assets.lake import Lake

CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: sites
name: sites
version: 1.0.0
status: active
schema:
  - name: sites
    properties:
      - {name: site_id, logicalType: integer, primaryKey: true}
      - {name: kind, logicalType: string}
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def feed(tmp_path: Path) -> SnapshotFeed:
    (tmp_path / "sites.odcs.yaml").write_text(CONTRACT)
    (tmp_path / "sites").mkdir()
    return SnapshotFeed(
        name="sites",
        folder=tmp_path / "sites",
        contract_path=tmp_path / "sites.odcs.yaml",
        table="raw/sites",
        quarantine_table="raw/sites_quarantine",
    )


def write(feed: SnapshotFeed, name: str, ids: range | list[int], extra: str = "") -> None:
    rows = [json.dumps({"site_id": n, "kind": "forum"}) + "\n" for n in ids]
    (feed.folder / name).write_text("".join(rows) + extra)


def ids(lake: Lake) -> list[int]:
    return sorted(lake.read("raw/sites")["site_id"].to_pylist())


def test_the_newest_file_replaces_the_table_once(lake: Lake, feed: SnapshotFeed) -> None:
    write(feed, "2013-01-01.jsonl", range(1, 4))
    assert ingest_snapshot(lake, feed).is_replaced
    write(feed, "2013-01-02.jsonl", range(2, 6))
    assert ingest_snapshot(lake, feed).is_replaced
    version = lake.version("raw/sites")

    again = ingest_snapshot(lake, feed)

    assert not again.is_replaced
    assert (again.num_accepted, again.num_rows_before) == (4, 3)
    assert lake.version("raw/sites") == version
    assert ids(lake) == [2, 3, 4, 5]


def test_a_snapshot_that_breaks_the_contract_is_refused_and_kept(
    lake: Lake, feed: SnapshotFeed
) -> None:
    write(feed, "1.jsonl", range(1, 4))
    ingest_snapshot(lake, feed)
    write(feed, "2.jsonl", [7, 8, 9, 9])
    for _ in range(2):
        with pytest.raises(IngestError, match="1 of 4 rows break the contract"):
            ingest_snapshot(lake, feed)

    assert ids(lake) == [1, 2, 3]
    refused = lake.read("raw/sites_quarantine").to_pylist()
    assert [(row["rule"], json.loads(row["raw"])["site_id"]) for row in refused] == [
        ("not_unique", 9)
    ]


def test_a_snapshot_that_shrank_too_much_is_refused(lake: Lake, feed: SnapshotFeed) -> None:
    write(feed, "1.jsonl", range(10))
    ingest_snapshot(lake, feed)
    write(feed, "2.jsonl", range(4))
    with pytest.raises(IngestError, match=r"4 rows where raw/sites has 10.*min_row_ratio=0\.5"):
        ingest_snapshot(lake, feed)
    assert len(ids(lake)) == 10


def test_a_snapshot_corrected_under_its_name_is_taken(lake: Lake, feed: SnapshotFeed) -> None:
    write(feed, "1.jsonl", range(3))
    ingest_snapshot(lake, feed)
    write(feed, "1.jsonl", range(4))
    assert ingest_snapshot(lake, feed).is_replaced
    assert ids(lake) == [0, 1, 2, 3]


def test_an_added_column_is_reported(lake: Lake, feed: SnapshotFeed) -> None:
    write(feed, "1.jsonl", range(3))
    ingest_snapshot(lake, feed)
    feed.contract_path.write_text(
        CONTRACT.replace("1.0.0", "1.1.0") + "      - {name: week, logicalType: integer}\n"
    )
    report = ingest_snapshot(lake, feed)
    assert report.added_columns == ["week"]
    assert report.removed_columns == []


def test_no_snapshot_yet_is_said(lake: Lake, feed: SnapshotFeed) -> None:
    with pytest.raises(IngestError, match="no snapshot of sites"):
        ingest_snapshot(lake, feed)


def test_a_file_does_not_bring_back_who_was_forgotten(lake: Lake, feed: SnapshotFeed) -> None:
    subject = "customProperties: [{property: scale.subject, value: user}]"
    contract = CONTRACT.replace("primaryKey: true", f"primaryKey: true, {subject}")
    feed.contract_path.write_text(contract)
    SuppressionList(lake).add([], person=("user", "2"))
    write(feed, "2013-01-01.jsonl", range(1, 4))

    report = ingest_snapshot(lake, feed)

    assert ids(lake) == [1, 3]
    assert (report.num_received, report.num_accepted) == (2, 2)
