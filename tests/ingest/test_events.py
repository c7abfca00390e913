"""Nothing is lost and nothing is taken twice, whatever the files hold."""

import gzip
import sys
from pathlib import Path

import pytest

from scale_assets.contracts import ContractError
from scale_assets.ingest.account import account
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
from tests.ingest.conftest import CONTRACT, event, folder_of, ids, in_batches_of, lines, rows


def test_rerunning_changes_nothing(lake: Lake, feed: EventFeed, deliver) -> None:
    deliver("a.jsonl", lines([event(1), event(2)]))
    deliver("b.jsonl.gz", gzip.compress(lines([event(3, 2)])))
    first = ingest(lake, feed)
    versions = lake.version(feed.table), lake.version(feed.quarantine_table)

    again = ingest(lake, feed)

    assert (first.num_received, first.num_accepted, again.num_received) == (3, 3, 0)
    assert ids(lake) == ["e1", "e2", "e3"]
    assert (lake.version(feed.table), lake.version(feed.quarantine_table)) == versions


def test_a_late_file_with_an_earlier_name_is_taken(lake: Lake, feed: EventFeed, deliver) -> None:
    deliver("b.jsonl", lines([event(2, 2)]))
    ingest(lake, feed)
    deliver("a.jsonl", lines([event(1)]))
    deliver(".c.jsonl.part", lines([event(9)]))
    ingest(lake, feed)

    assert ids(lake) == ["e1", "e2"]


def test_a_file_that_changed_is_named_loudly_and_the_others_are_taken(
    lake: Lake, feed: EventFeed, deliver
) -> None:
    deliver("a.jsonl", lines([event(1)]))
    ingest(lake, feed)
    deliver("a.jsonl", lines([event(1), event(2)]))
    deliver("b.jsonl", lines([event(3)]))

    report = ingest(lake, feed)

    assert ids(lake) == ["e1", "e3"]
    with pytest.raises(IngestError, match=r"a\.jsonl changed after it was ingested.*restore it"):
        report.raise_if_broken()


def test_a_truncated_gz_is_never_half_taken(lake: Lake, feed: EventFeed, deliver) -> None:
    whole = gzip.compress(lines(event(n) for n in range(5000)))
    deliver("a.jsonl.gz", whole[: len(whole) // 2])
    deliver("b.jsonl", lines([event(9999)]))

    report = ingest(lake, in_batches_of(feed, 1000))

    assert ids(lake) == ["e9999"]
    with pytest.raises(IngestError, match=r"a\.jsonl\.gz is cut short or damaged"):
        report.raise_if_broken()
    deliver("a.jsonl.gz", whole)
    assert ingest(lake, feed).num_accepted == 5000


BAD_LINES = [
    pytest.param(b"\xff\xfe\x00binary", "not_utf8", id="binary"),
    pytest.param(lines([event(1, pad="x" * (5 << 20))])[:-1], "too_large", id="5 MB"),
    pytest.param(
        b'{"event_id":"e","event_time":"2013-01-01T00:00:00Z","num_clicks":NaN}', "", id="nan"
    ),
    pytest.param(lines([event(1, num_clicks="many")])[:-1], "wrong_type", id="wrong type"),
    pytest.param(lines([event(1, color="red")])[:-1], "unknown_column", id="unknown column"),
    pytest.param(lines([event(1, num_clicks=0)])[:-1], "out_of_range", id="out of range"),
    pytest.param(b"{not json", "", id="not json"),
    pytest.param(
        lines([event(1, event_time="1999-01-01T00:00:00Z")])[:-1], "out_of_calendar", id="date"
    ),
    pytest.param(
        lines([event(1, event_time="2013-02-01T00:00:00Z")])[:-1], "out_of_calendar", id="end"
    ),
]


@pytest.mark.parametrize(("bad", "rule"), BAD_LINES)
def test_a_bad_line_is_kept_with_its_bytes(
    lake: Lake, feed: EventFeed, deliver, bad: bytes, rule: str
) -> None:
    deliver("a.jsonl", lines([event(5, 3)]) + bad + b"\n" + lines([event(6, 4)]))

    report = ingest(lake, feed)

    assert (report.num_received, report.num_accepted, report.num_quarantined) == (3, 2, 1)
    refused = rows(lake, feed.quarantine_table)[0]
    assert refused["raw"] == bad
    assert refused["_position"] == 1
    assert refused["rule"] == rule or not rule
    assert refused["contract_version"] == "1.0.0"
    assert str(refused["event_date"]) == "2013-01-03"
    assert account(lake, feed).is_exact


def test_an_empty_file_is_remembered_and_holds_nothing(
    lake: Lake, feed: EventFeed, deliver
) -> None:
    deliver("a.jsonl", b"")
    deliver("b.jsonl", b"\n\n" + lines([event(1)])[:-1])

    assert ingest(lake, feed).num_places == 2
    assert ingest(lake, feed).num_places == 0
    assert rows(lake)[0]["_position"] == 2


def test_a_missing_folder_is_named(lake: Lake, feed: EventFeed) -> None:
    folder_of(feed).rmdir()
    with pytest.raises(IngestError, match=r"views does not exist; create it"):
        ingest(lake, feed)


def test_a_contract_that_does_not_parse_stops_before_any_row(
    lake: Lake, feed: EventFeed, deliver
) -> None:
    deliver("a.jsonl", lines([event(1)]))
    feed.contract_path.write_text("schema: [")
    with pytest.raises(ContractError, match=r"views\.odcs\.yaml"):
        ingest(lake, feed)
    assert not lake.exists(feed.table)


def test_an_incompatible_contract_stops_before_any_row(
    lake: Lake, feed: EventFeed, deliver
) -> None:
    deliver("a.jsonl", lines([event(1)]))
    ingest(lake, feed)
    deliver("b.jsonl", lines([event(2)]))
    feed.contract_path.write_text(
        CONTRACT.format(
            version="1.1.0", more="      - {name: color, logicalType: string, required: true}\n"
        )
    )
    with pytest.raises(IngestError, match=r"1\.1\.0 cannot follow 1\.0\.0"):
        ingest(lake, feed)
    assert ids(lake) == ["e1"]


def test_an_added_optional_column_is_taken(lake: Lake, feed: EventFeed, deliver) -> None:
    deliver("a.jsonl", lines([event(1)]))
    ingest(lake, feed)
    deliver("b.jsonl", lines([event(2, color="red")]))
    feed.contract_path.write_text(
        CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")
    )
    ingest(lake, feed)
    assert [row["color"] for row in rows(lake)] == [None, "red"]


EVENTS = [
    event(1, 1),
    event(1, 6),
    event(1, 11),
    event(2, 1),
    event(2, 1),
    event(3, 9),
    event(1, 2),
]


@pytest.mark.parametrize("files", [1, 3, 7])
@pytest.mark.parametrize("max_batch_bytes", [1, 150, 1 << 20])
def test_duplicates_are_the_same_however_rows_are_cut(
    lake: Lake, feed: EventFeed, deliver, files: int, max_batch_bytes: int
) -> None:
    size = -(-len(EVENTS) // files)
    for number in range(files):
        deliver(f"{number}.jsonl", lines(EVENTS[number * size : (number + 1) * size]))
        if number % 2:
            ingest(lake, in_batches_of(feed, max_batch_bytes))
    ingest(lake, in_batches_of(feed, max_batch_bytes))

    kept = sorted((row["event_id"], row["event_date"].day) for row in rows(lake))
    assert kept == [("e1", 1), ("e1", 11), ("e2", 1), ("e3", 9)]
    totals = account(lake, feed)
    assert (totals.received, totals.accepted, totals.duplicates) == (7, 4, 3)
    assert totals.is_exact


def test_a_large_file_is_taken_slice_by_slice(
    lake: Lake, feed: EventFeed, deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scale_assets.ingest.files.READ_BYTES", 1000)
    deliver("a.jsonl", lines(event(n, 1 + n % 28) for n in range(500)))

    report = ingest(lake, in_batches_of(feed, 5000))

    assert report.num_batches > 5
    assert [row["_position"] for row in rows(lake)] == list(range(500))
    assert ids(lake) == [f"e{n}" for n in range(500)]


def test_real_wikipedia_lines_with_an_open_contract(
    lake: Lake, feed: EventFeed, shared_data_dir: Path
) -> None:
    """39,244 real edits in gz against a contract that they break: all of them are kept."""
    real = next((shared_data_dir / "wikiticker").glob("*.json.gz"))
    (folder_of(feed) / real.name).symlink_to(real)
    report = ingest(lake, feed)
    assert report.num_received == report.num_quarantined == 39_244


def test_a_small_file_is_held_in_as_little_memory(feed: EventFeed, deliver) -> None:
    """A batch may hold hundreds of them."""
    for number in range(3):
        deliver(f"{number}.jsonl", lines([event(number)]))

    with feed.source.reading() as reading:
        pieces = list(reading.pieces({}, max_bytes=feed.max_batch_bytes))

    assert [len(piece.records) for piece in pieces] == [piece.num_bytes for piece in pieces]
    assert all(sys.getsizeof(piece.records.obj) < 2 * piece.num_bytes + 100 for piece in pieces)
