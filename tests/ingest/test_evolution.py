"""A contract changes: what the table becomes, what is refused, and what a crash makes of it."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from scale_assets.contracts import Mode
from scale_assets.ingest.account import account
from scale_assets.ingest.contract_check import check_contract
from scale_assets.ingest.contract_history import ContractHistory
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.ingest.errors import BrokenCompatibility
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake, LakeError
from tests.ingest.conftest import CONTRACT, event, folder_of, ids, in_batches_of, lines, rows
from tests.ingest.test_faults import run

COLOR = "      - {name: color, logicalType: string}\n"
REQUIRED_COLOR = "      - {name: color, logicalType: string, required: true}\n"
LIMITED_COLOR = "      - {name: color, logicalType: string, logicalTypeOptions: {maxLength: 3}}\n"


def contract(version: str, more: str = "", *, clicks: str = "integer", score: bool = True) -> str:
    text = CONTRACT.format(version=version, more=more)
    text = text.replace(
        "name: num_clicks, logicalType: integer", f"name: num_clicks, logicalType: {clicks}"
    )
    if clicks == "string":
        text = text.replace(", logicalTypeOptions: {minimum: 1}", "")
    return text if score else text.replace("      - {name: score, logicalType: number}\n", "")


def deliver(feed: EventFeed, name: str, *events: dict[str, object]) -> None:
    (folder_of(feed) / name).write_bytes(lines(events))


def clicks(lake: Lake) -> list[tuple[str, object]]:
    return [(row["event_id"], row["num_clicks"]) for row in rows(lake)]


def versions(lake: Lake, feed: EventFeed) -> list[str]:
    return [each.version for each in ContractHistory(lake, feed.name).contracts()]


# ------------------------------------------------------------------ decided on the whole history


BROKEN = [
    ("BACKWARD", contract("1.1.0", REQUIRED_COLOR), "required_field_added color"),
    ("BACKWARD", contract("1.1.0", score=False), "field_removed score"),
    ("BACKWARD", contract("1.1.0", clicks="string"), "type_changed num_clicks"),
    ("FORWARD", contract("1.1.0", COLOR), "field_removed color"),
    ("FORWARD", contract("1.1.0", clicks="number"), "type_changed num_clicks"),
    ("FULL", contract("1.1.0", COLOR), "field_removed color"),
    ("FULL_TRANSITIVE", contract("1.1.0", score=False), "field_removed score"),
    ("BACKWARD_TRANSITIVE", contract("1.0.0", COLOR), "version_reused version"),
]


@pytest.mark.parametrize(("mode", "text", "named"), BROKEN)
def test_a_breaking_contract_stops_before_any_row_and_names_rule_and_field(
    lake: Lake, feed: EventFeed, mode: str, text: str, named: str
) -> None:
    feed = replace(feed, compatibility=Mode(mode))
    deliver(feed, "a.jsonl", event(1))
    ingest(lake, feed)
    before = lake.version(feed.table), lake.version(feed.quarantine_table)
    deliver(feed, "b.jsonl", event(2))
    feed.contract_path.write_text(text)

    with pytest.raises(BrokenCompatibility, match=rf"cannot follow 1\.0\.0 under {mode}.*") as stop:
        ingest(lake, feed)

    assert named in str(stop.value)
    assert (lake.version(feed.table), lake.version(feed.quarantine_table)) == before
    assert versions(lake, feed) == ["1.0.0"]


ALLOWED = [
    ("BACKWARD", contract("1.1.0", COLOR)),
    ("BACKWARD", contract("1.1.0", clicks="number")),
    ("FORWARD", contract("1.1.0", score=False)),
    ("NONE", contract("1.1.0", REQUIRED_COLOR, score=False)),
]


@pytest.mark.parametrize(("mode", "text"), ALLOWED)
def test_what_the_mode_allows_is_taken(lake: Lake, feed: EventFeed, mode: str, text: str) -> None:
    feed = replace(feed, compatibility=Mode(mode))
    deliver(feed, "a.jsonl", event(1))
    ingest(lake, feed)
    deliver(feed, "b.jsonl", event(2) | ({"color": "red"} if "color" in text else {}))
    feed.contract_path.write_text(text)
    ingest(lake, feed)

    assert ids(lake) == ["e1", "e2"]
    assert versions(lake, feed) == ["1.0.0", "1.1.0"]


@pytest.mark.parametrize("mode", ["BACKWARD", "BACKWARD_TRANSITIVE"])
def test_a_transitive_mode_remembers_contracts_that_the_log_has_forgotten(
    lake: Lake, feed: EventFeed, mode: str
) -> None:
    """1.2.0 reads what 1.1.0 wrote, and not what 1.0.0 did."""
    feed = replace(feed, compatibility=Mode(mode))
    for version, text in (("1.0.0", COLOR), ("1.1.0", LIMITED_COLOR), ("1.2.0", LIMITED_COLOR)):
        feed.contract_path.write_text(contract(version, text))
        deliver(feed, f"{version}.jsonl", event(int(version[2]), color="red"))
        if version == "1.1.0":  # how it came to be: somebody allowed it once
            ingest(lake, replace(feed, compatibility=Mode.NONE))
            forget_log(lake, feed)
        elif version == "1.2.0" and mode.endswith("TRANSITIVE"):
            with pytest.raises(BrokenCompatibility, match=r"(?s)follow 1\.0\.0.*length_narrowed"):
                ingest(lake, feed)
        else:
            ingest(lake, feed)

    assert len(ids(lake)) == (2 if mode.endswith("TRANSITIVE") else 3)


def forget_log(lake: Lake, feed: EventFeed) -> None:
    """Checkpoints, and the clean-up of what lies before them."""
    for table in lake.tables():
        handle = lake.open(table)
        handle.create_checkpoint()
        for version in range(handle.version()):
            Path(lake.uri(table), "_delta_log", f"{version:020}.json").unlink()


def test_another_wording_is_no_other_contract(lake: Lake, feed: EventFeed) -> None:
    deliver(feed, "a.jsonl", event(1))
    ingest(lake, feed)
    feed.contract_path.write_text("# a comment\n" + feed.contract_path.read_text())
    ingest(lake, feed)

    assert versions(lake, feed) == ["1.0.0"]


# ------------------------------------------------------------------ what becomes of the table


def test_a_type_that_delta_cannot_widen_is_rewritten_and_every_reader_reads_it(
    lake: Lake, feed: EventFeed
) -> None:
    deliver(feed, "a.jsonl", event(1), event(2, 2))
    ingest(lake, feed)
    before = lake.version(feed.table)
    deliver(feed, "b.jsonl", event(3, 2, num_clicks=2.5))
    feed.contract_path.write_text(contract("2.0.0", clicks="number"))

    ingest(lake, feed)

    assert clicks(lake) == [("e1", 1.0), ("e2", 1.0), ("e3", 2.5)]
    relation = lake.duckdb_relation_sql(feed.table)
    assert duckdb.sql(f"select sum(num_clicks) from ({relation})").fetchall() == [(4.5,)]
    old = lake.read(feed.table, version=before)
    assert old.schema.field("num_clicks").type == pa.int64()
    assert lake.schema(feed.table).field("num_clicks").type == pa.float64()
    assert account(lake, feed).is_exact
    assert ingest(lake, feed).num_received == 0  # the positions stayed


AMOUNT = "      - {{name: amount, logicalType: number, physicalType: 'decimal({digits})'}}\n"


def test_decimals_grow_before_and_behind_the_point(lake: Lake, feed: EventFeed) -> None:
    feed.contract_path.write_text(contract("1.0.0", AMOUNT.format(digits="5,2")))
    deliver(feed, "a.jsonl", event(1, amount=123.45))
    ingest(lake, feed)
    feed.contract_path.write_text(contract("1.1.0", AMOUNT.format(digits="7,3")))
    deliver(feed, "b.jsonl", event(2, amount=1234.567))
    ingest(lake, feed)

    assert [row["amount"] for row in rows(lake)] == [Decimal("123.450"), Decimal("1234.567")]
    feed.contract_path.write_text(contract("1.2.0", AMOUNT.format(digits="8,5")))
    with pytest.raises(BrokenCompatibility, match="decimal_narrowed amount"):
        ingest(lake, feed)


def test_widening_and_adding_come_in_one_commit(lake: Lake, feed: EventFeed) -> None:
    deliver(feed, "a.jsonl", event(1))
    ingest(lake, feed)
    before = lake.version(feed.table)
    feed.contract_path.write_text(contract("2.0.0", COLOR, clicks="number"))
    ingest(lake, feed)

    assert lake.version(feed.table) == before + 1
    assert rows(lake)[0]["color"] is None


def test_a_value_that_no_double_equals_is_refused_by_name(lake: Lake, feed: EventFeed) -> None:
    deliver(feed, "a.jsonl", event(1, num_clicks=2**53 + 1))
    ingest(lake, feed)
    feed.contract_path.write_text(contract("2.0.0", clicks="number"))

    with pytest.raises(
        LakeError, match=r"raw/views cannot be widened: column num_clicks.*new name"
    ):
        ingest(lake, feed)

    assert clicks(lake) == [("e1", 2**53 + 1)]
    assert versions(lake, feed) == ["1.0.0"]  # so that going back is no change
    feed.contract_path.write_text(contract("1.0.0"))
    ingest(lake, feed)


def test_a_wider_column_stays_when_a_contract_narrows(lake: Lake, feed: EventFeed) -> None:
    feed = replace(feed, compatibility=Mode.FORWARD)
    feed.contract_path.write_text(contract("1.0.0", clicks="number"))
    deliver(feed, "a.jsonl", event(1, num_clicks=2.5))
    ingest(lake, feed)
    feed.contract_path.write_text(contract("1.1.0", clicks="integer"))
    deliver(feed, "b.jsonl", event(2, num_clicks=3))
    ingest(lake, feed)

    assert clicks(lake) == [("e1", 2.5), ("e2", 3.0)]


def test_a_type_of_another_kind_is_refused_by_name_even_without_rules(
    lake: Lake, feed: EventFeed
) -> None:
    feed = replace(feed, compatibility=Mode.NONE)
    deliver(feed, "a.jsonl", event(1))
    ingest(lake, feed)
    feed.contract_path.write_text(contract("2.0.0", clicks="string"))

    with pytest.raises(LakeError, match="raw/views, column num_clicks: is int64, wanted string"):
        ingest(lake, feed)
    assert ids(lake) == ["e1"]


# ------------------------------------------------------------------ seen beforehand


def declared(feed: EventFeed) -> DeclaredFeed:
    return DeclaredFeed(
        name=feed.name,
        contract_path=feed.contract_path,
        compatibility=feed.compatibility,
        table=feed.table,
        quarantine_table=feed.quarantine_table,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (contract("1.0.0"), "views: contract 1.0.0 is in force"),
        (contract("1.1.0", COLOR), "views: contract 1.1.0 may follow: adds color"),
        (
            contract("1.1.0", clicks="number"),
            "views: contract 1.1.0 may follow: widens num_clicks, rewriting 1 rows",
        ),
        (
            contract("1.1.0", REQUIRED_COLOR),
            (
                "views: contract 1.1.0 breaks what went before\n- required_field_added color: color "
                "is required but absent in rows of 1.0.0; make it optional (against 1.0.0)"
            ),
        ),
    ],
)
def test_a_check_says_what_would_happen_and_writes_nothing(
    lake: Lake, feed: EventFeed, text: str, expected: str
) -> None:
    deliver(feed, "a.jsonl", event(1))
    ingest(lake, feed)
    before = [lake.version(table) for table in lake.tables()]
    feed.contract_path.write_text(text)

    assert "\n".join(check_contract(lake, declared(feed)).lines()) == expected
    assert [lake.version(table) for table in lake.tables()] == before


# ------------------------------------------------------------------ a crash in between


NEXT = {
    "added": ("BACKWARD", contract("1.1.0", COLOR)),
    "removed": ("FORWARD", contract("1.1.0", score=False)),
    "renamed": (
        "NONE",
        contract("1.1.0").replace("name: score", "name: rating"),
    ),
    "widened": ("BACKWARD", contract("1.1.0", clicks="number")),
}


@pytest.mark.fault
@pytest.mark.parametrize(
    "fault", ["before_write:3", "after_quarantine", "after_parquet:3", "after_commit"]
)
@pytest.mark.parametrize("change", sorted(NEXT))
def test_a_contract_changed_between_the_crash_and_the_restart(
    lake: Lake, feed: EventFeed, change: str, fault: str
) -> None:
    mode, text = NEXT[change]
    feed = in_batches_of(replace(feed, compatibility=Mode(mode)), 1000)
    deliver(feed, "a.jsonl", *(event(n, score=0.5) for n in range(9)), {"x": 1})
    run(lake, feed, fault=fault)
    feed.contract_path.write_text(text)
    deliver(feed, "b.jsonl", *(event(n, 9) for n in range(20, 29)))

    ingest(lake, feed)

    assert ids(lake) == [f"e{n}" for n in (*range(9), *range(20, 29))]
    totals = account(lake, feed)
    assert totals.is_exact
    assert (totals.received, totals.quarantined) == (19, 1)
    assert rows(lake, feed.quarantine_table)[0]["contract_version"] == "1.0.0"
    assert [row["score"] for row in rows(lake)[:9]] == [0.5] * 9


@pytest.mark.fault
@pytest.mark.parametrize(
    "fault", ["before_write:1", "rewriting:1", "rewriting:2", "after_parquet:1"]
)
def test_killed_inside_the_rewrite_the_table_is_whole(
    lake: Lake, feed: EventFeed, fault: str
) -> None:
    deliver(feed, "a.jsonl", event(1), event(2, 2))
    ingest(lake, feed)
    deliver(feed, "b.jsonl", event(3, num_clicks=1.5))
    feed.contract_path.write_text(contract("1.1.0", clicks="number"))
    assert run(lake, feed, fault=fault).returncode < 0
    assert clicks(lake) == [("e1", 1), ("e2", 1)]
    assert lake.schema(feed.table).field("num_clicks").type == pa.int64()

    ingest(lake, feed)

    assert clicks(lake) == [("e1", 1.0), ("e2", 1.0), ("e3", 1.5)]
    assert account(lake, feed).is_exact


@pytest.mark.fault
def test_an_incompatible_contract_leaves_a_half_committed_batch_for_the_mended_one(
    lake: Lake, feed: EventFeed
) -> None:
    deliver(feed, "a.jsonl", event(1), {"x": 1})
    run(lake, feed, fault="after_quarantine")
    feed.contract_path.write_text(contract("1.1.0", REQUIRED_COLOR))
    with pytest.raises(BrokenCompatibility):
        ingest(lake, feed)
    feed.contract_path.write_text(contract("1.1.0", COLOR))
    ingest(lake, feed)

    assert ids(lake) == ["e1"]
    assert account(lake, feed).is_exact
