"""A replay of the quarantine of a topic: what came with the records stays, beside followers too."""

import json
from pathlib import Path
from typing import Any

import pytest

from scale_assets.ingest.account import IngestReport, account
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kafka.avro import AvroValues
from scale_assets.ingest.kafka.registry import Registry
from scale_assets.ingest.revalidate import Revalidation, revalidate
from scale_assets.lake import Lake
from tests.ingest.conftest import CONTRACT, ids, put, rows
from tests.ingest.kafka.conftest import with_source
from tests.ingest.kafka.mock import send, values
from tests.ingest.kafka.registry import registry
from tests.ingest.kafka.test_avro import VIEW, framed, view
from tests.ingest.kafka.test_follow import following, wait_for

WITH_COLOR = CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")
CARRIED = ["_key", "_headers", "_timestamp", "_source_file", "_position"]


def test_key_headers_time_and_partition_stay(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    send(broker, topic, values([0, 1]), key=b"k", headers=[("of", b"\0\xff"), ("of", b"2")])
    send(
        broker, topic, values([2], color="red"), partition=3,
        key=b"\0key", headers=[("of", b"\0\xff"), ("none", None)], timestamp=1_360_000_000_123,
    )  # fmt: skip
    send(broker, topic, values([3], color="blue"), partition=1)
    ingest(lake, kafka_feed)
    refused = {row["_source_file"]: row for row in rows(lake, kafka_feed.quarantine_table)}
    assert len(refused) == 2
    put(kafka_feed.contract_path, WITH_COLOR)

    assert revalidate(lake, kafka_feed).num_accepted == 2

    moved = {row["_source_file"]: row for row in rows(lake) if row["color"]}
    assert {row["color"] for row in moved.values()} == {"red", "blue"}
    for place, row in moved.items():
        assert {name: row[name] for name in CARRIED} == {
            name: refused[place][name] for name in CARRIED
        }
    red = next(row for row in moved.values() if row["color"] == "red")
    assert (red["_key"], red["_source_file"].rsplit("/", 1)[1]) == (b"\0key", "3")
    assert red["_headers"] == [{"name": "of", "value": b"\0\xff"}, {"name": "none", "value": None}]


def test_a_change_keeps_what_came_with_it_and_its_place(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, tmp_path: Path
) -> None:
    from tests.ingest import test_changes as changes
    from tests.ingest.test_replayed_changes import WITH_NOTE, noted

    contract = tmp_path / "plans.odcs.yaml"
    contract.write_text(changes.CONTRACT)
    feed = ChangeFeed(
        name="plans", source=kafka_feed.source, contract_path=contract,
        table="raw/plans_changes", quarantine_table="raw/plans_quarantine",
    )  # fmt: skip
    sent = [changes.change("u", 1, price, lsn=7, day=1) for price in (10, 11, 12)]
    sent[1] = noted(sent[1])
    send(broker, topic, [json.dumps(each).encode() for each in sent], key=b"1")
    ingest(lake, feed)
    contract.write_text(WITH_NOTE)

    assert revalidate(lake, feed).num_accepted == 1

    found = lake.read(feed.table).sort_by("tx_ordinal").to_pylist()
    assert [(row["price"], row["tx_ordinal"], row["_position"]) for row in found] == [
        (10, 0, 0),
        (11, 1, 1),
        (12, 2, 2),
    ]
    assert {row["_key"] for row in found} == {b"1"}


def test_what_could_not_be_read_is_read_when_the_registry_knows_it(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    schemas: dict[int, dict[str, Any]] = {7: {"schema": json.dumps(VIEW)}}
    sent = [framed(7, VIEW, view(1)), framed(8, VIEW, view(2)), b"{}"]
    send(broker, topic, sent, key=b"k")
    with registry(schemas) as url:
        feed = with_source(kafka_feed, values=AvroValues(Registry(url)))
        ingest(lake, feed)
        assert revalidate(lake, feed).num_moved == 0
        schemas[8] = schemas[7]
        again = with_source(kafka_feed, values=AvroValues(Registry(url)))

        report = revalidate(lake, again)

    assert (report.num_examined, report.num_accepted) == (2, 1)
    assert ids(lake) == ["e1", "e2"]
    assert [row["raw"] for row in rows(lake, feed.quarantine_table)] == [b"{}"]
    assert account(lake, feed).is_exact


def test_beside_a_follower_everything_is_taken_once(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower commits between the replay's moves, and takes up the mended contract."""
    monkeypatch.setattr("scale_assets.ingest.revalidate.LINES_PER_MOVE", 7)
    reports: list[IngestReport] = []
    send(broker, topic, values(range(40), color="red"))
    ingest(lake, kafka_feed)
    assert lake.num_rows(kafka_feed.quarantine_table) == 40

    with following(lake, kafka_feed, reports.append):
        send(broker, topic, values([1000]))
        wait_for(lambda: lake.num_rows(kafka_feed.table) == 1)
        put(kafka_feed.contract_path, WITH_COLOR)
        for first in range(40, 160, 20):
            send(broker, topic, values(range(first, first + 20), color="red"), partition=first % 4)
            if first % 40 == 0:
                revalidate(lake, kafka_feed)
        wait_for(lambda: account(lake, kafka_feed).received == 161)
        revalidate(lake, kafka_feed)

    found = ids(lake)
    assert (len(found), len(set(found))) == (161, 161)
    assert lake.num_rows(kafka_feed.quarantine_table) == 0
    assert account(lake, kafka_feed).is_exact


def test_a_follower_finishes_the_move_of_a_replay_that_died(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it commits anything: then nobody could say any more which lines they were."""
    send(broker, topic, values([1], color="red"))
    ingest(lake, kafka_feed)
    with following(lake, kafka_feed, lambda _: None):
        send(broker, topic, values([2]))
        wait_for(lambda: ids(lake) == ["e2"])
        put(kafka_feed.contract_path, WITH_COLOR)
        wait_for(lambda: lake.num_rows("contracts/views") == 2)
        with monkeypatch.context() as patch:
            patch.setattr(Revalidation, "_settled", _dying_after_a_move())
            with pytest.raises(IngestError, match="killed"):
                revalidate(lake, kafka_feed)
        send(broker, topic, values([3]))
        wait_for(lambda: "e3" in ids(lake))

    assert sorted(ids(lake)) == ["e1", "e2", "e3"]
    assert lake.num_rows(kafka_feed.quarantine_table) == 0
    assert account(lake, kafka_feed).is_exact


def _dying_after_a_move() -> Any:
    settled = Revalidation._settled

    def settled_or_dead(self: Revalidation) -> None:
        if self.report.num_moved:
            raise IngestError("killed")
        settled(self)

    return settled_or_dead
