"""Added to or made anew, the derived tables hold what a naive replay of the changes says."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings

from scale_assets.contracts import Contract, Field, change_schema
from scale_assets.ingest import current as current_module
from scale_assets.ingest import history as history_module
from scale_assets.ingest.columns import SOURCE_FIELDS
from scale_assets.ingest.derive import Derived, derive_current, derive_history
from scale_assets.lake import Lake
from tests.ingest.naive_changes import Naive

KEY = ("shop", "item")
VALUES = ("name", "bio", "tags")
CONTRACT = Contract(
    name="items",
    version="1",
    primary_key=KEY,
    fields=(
        Field(name="shop", type="string", required=True),
        Field(name="item", type="integer", required=True),
        Field(name="name", type="string"),
        Field(name="bio", type="string"),
        Field(name="tags", type="array", items="string"),
    ),
)
SCHEMA = pa.schema([*(f for f in change_schema(CONTRACT) if f.name != "_position"), *SOURCE_FIELDS])
START = datetime(2013, 1, 1, tzinfo=UTC)
Row = dict[str, Any]


def change(
    op: str, item: int | None, *, at: int | None, position: int, ordinal: int = 0, **others: Any
) -> Row:
    moment = START + timedelta(hours=position if at is None else at)
    return {
        **dict.fromkeys(SCHEMA.names),
        "shop": None if item is None else "a",
        "item": item,
        "op": op,
        "event_time": moment,
        "received_at": moment + timedelta(minutes=1),
        "lsn": at,
        "tx_ordinal": None if at is None else ordinal,
        "_source_file": "1.jsonl",
        "_position": position,
        **others,
    }


class Tables:
    """A table of changes and what derives from it, in a lake of their own."""

    def __init__(self, folder: Path | str) -> None:
        self.lake = Lake(folder)
        self.lake.create("raw/items_changes", SCHEMA)
        self.batches: list[list[Row]] = []

    def append(self, changes: list[Row]) -> None:
        self.batches.append(changes)
        rows = pa.Table.from_pylist(changes, schema=SCHEMA)
        position = {"items/batch": len(self.batches)}
        self.lake.append_once("raw/items_changes", rows, positions=position)

    def derive(self, suffix: str = "") -> tuple[Derived, Derived]:
        source = "raw/items_changes"
        current = derive_current(self.lake, CONTRACT, changes=source, table=f"items{suffix}")
        table = f"items_history{suffix}"
        return current, derive_history(self.lake, CONTRACT, changes=source, table=table)

    def shown(self, suffix: str = "") -> tuple[Counter[str], Counter[str]]:
        history = self.lake.read(f"items_history{suffix}").drop_columns(["_segment"])
        return counted(self.lake.read(f"items{suffix}").to_pylist()), counted(history.to_pylist())

    def expected(self) -> tuple[Counter[str], Counter[str]]:
        naive = Naive(key=KEY, columns=VALUES).replay(
            [row for rows in self.batches for row in rows]
        )
        periods = [period for periods in naive.history.values() for period in periods]
        return counted(naive.current.values()), counted(periods)


def counted(rows: Iterable[Row]) -> Counter[str]:
    return Counter(
        repr(sorted((name, _comparable(value)) for name, value in row.items())) for row in rows
    )


def _comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return sorted(value) if isinstance(value, list) else value


ITEMS = st.integers(1, 3)
TEXTS = st.sampled_from([None, "x", "y"])
UNCHANGED = st.lists(st.sampled_from(["bio", "tags"]), unique=True, max_size=2)


@st.composite
def logs(draw: st.DrawFn) -> list[list[Row]]:
    """A source's log in batches, some of it out of order."""
    changes: list[list[Row]] = []  # by transaction
    num_without_lsn = draw(st.integers(0, 3))
    kinds = ["put", "put", "put", "delete", "move"]
    kinds += ["truncate"] if draw(st.integers(0, 3)) == 0 else []
    for number in range(draw(st.integers(1, 12))):
        at = None if number < num_without_lsn else number
        changes.append(draw(transactions(kinds, at=at, position=number * 10)))
    if draw(st.integers(0, 2)) == 0:
        first, second = draw(st.tuples(*[st.integers(0, len(changes) - 1)] * 2))
        changes[first], changes[second] = changes[second], changes[first]
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    batches = []
    for size in [*sizes[:-1], len(changes)]:
        batches.append([row for rows in changes[:size] for row in rows])
        changes = changes[size:]
    return batches


@st.composite
def transactions(draw: st.DrawFn, kinds: list[str], *, at: int | None, position: int) -> list[Row]:
    kind = draw(st.sampled_from(kinds))
    if kind == "truncate":
        return [change("t", None, at=at, position=position)]
    unchanged = draw(UNCHANGED)
    values = {"name": draw(TEXTS), "bio": draw(TEXTS), "tags": draw(st.sampled_from([None, ["a"]]))}
    values |= dict.fromkeys(unchanged)
    values["_unchanged"] = unchanged or None
    item, other = draw(ITEMS), draw(ITEMS)
    if kind == "delete":
        return [change("d", item, at=at, position=position)]
    if kind == "put" or item == other:
        op = draw(st.sampled_from("cur"))
        return [change(op, item, at=at, position=position, **values)]
    values["_moved_from"] = {"shop": "a", "item": item}
    return [
        change("d", item, at=at, position=position),
        change("c", other, at=at, position=position + 1, ordinal=1, **values),
    ]


def check(batches: list[list[Row]], *, is_large: bool) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_module, "SEGMENT_ROWS", 2)
        if is_large:
            patch.setattr(current_module, "REWRITTEN_BYTES", 0)
        tables = Tables(folder)
        for batch in batches:
            tables.append(batch)
            tables.derive()
            assert tables.shown() == tables.expected()
        tables.derive("_anew")
        assert tables.shown("_anew") == tables.shown()


SLOWLY = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(batches=logs(), is_large=st.booleans())
@settings(SLOWLY, max_examples=6)
def test_adding_equals_making_anew_equals_a_naive_replay(
    batches: list[list[Row]], *, is_large: bool
) -> None:
    check(batches, is_large=is_large)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(batches=logs(), is_large=st.booleans())
@settings(SLOWLY, max_examples=300)
def test_adding_equals_making_anew_equals_a_naive_replay_at_length(
    batches: list[list[Row]], *, is_large: bool
) -> None:
    check(batches, is_large=is_large)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Items 1 to 3 exist, item 4 did; both tables show it."""
    tables = Tables(tmp_path / "lake")
    tables.append(
        [
            *(put(item, at=item, name="first", bio="long", tags=["t"]) for item in (1, 2, 3, 4)),
            change("d", 4, at=5, position=50),
        ]
    )
    tables.derive()
    return tables


def put(item: int, *, at: int | None, position: int | None = None, **values: Any) -> Row:
    return change(
        "u", item, at=at, position=10 * (at or 0) if position is None else position, **values
    )


def unsent(item: int, *fields: str, at: int, **values: Any) -> Row:
    return put(item, at=at, _unchanged=list(fields), **values)


ADDED: dict[str, list[Row]] = {
    "an update": [put(1, at=6, name="second")],
    "an insert": [put(9, at=6)],
    "a delete": [change("d", 2, at=6, position=60)],
    "a key that comes back": [put(4, at=6, name="again")],
    "a delete and what follows it": [
        change("d", 1, at=6, position=60),
        unsent(1, "bio", at=7, name="reborn"),
    ],
    "a value that was not sent": [unsent(1, "bio", at=6, name="second")],
    "twice": [unsent(1, "bio", "tags", at=6), unsent(1, "bio", at=7, tags=["u"])],
    "a value that was never sent": [unsent(9, "bio", at=6, name="new")],
    "keys that change, with all their values": [
        change("d", 1, at=6, position=60),
        change("c", 7, at=6, ordinal=1, position=60, _moved_from={"shop": "a", "item": 1}),
    ],
    "out of order within the batch": [put(1, at=8, name="last"), put(1, at=6, name="before")],
    "nothing": [],
}


@pytest.fixture(params=["small", "large"])
def of_any_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small current table is written anew, a large one merged into."""
    if request.param == "large":
        monkeypatch.setattr(current_module, "REWRITTEN_BYTES", 0)


@pytest.mark.usefixtures("of_any_size")
@pytest.mark.parametrize("batch", ADDED.values(), ids=ADDED)
def test_changes_after_those_shown_are_added_in_one_commit(
    tables: Tables, batch: list[Row]
) -> None:
    versions = [tables.lake.version(name) for name in ("items", "items_history")]
    tables.append(batch)

    for derived, version in zip(tables.derive(), versions, strict=True):
        assert derived.made_anew is None
        assert derived.version == version + bool(batch)
        assert derived.changes_version == tables.lake.version("raw/items_changes")

    assert tables.shown() == tables.expected()
    assert [each.version for each in tables.derive()] == [each + bool(batch) for each in versions]


@pytest.mark.usefixtures("of_any_size")
def test_a_delete_of_what_is_not_there_changes_only_the_history(tables: Tables) -> None:
    version = tables.lake.version("items")
    tables.append([change("d", 8, at=6, position=60)])

    assert [derived.made_anew for derived in tables.derive()] == [None, None]
    assert tables.lake.version("items") == version
    assert tables.shown() == tables.expected()
    tables.append([put(8, at=7)])
    tables.derive()
    assert tables.shown() == tables.expected()


ANEW: dict[str, tuple[list[Row], str]] = {
    "a truncate": ([change("t", None, at=6, position=60)], "truncated"),
    "a change older than its key's last": ([put(1, at=6), put(2, at=0, position=5)], "after newer"),
    "a change older than a delete": ([put(4, at=4, ordinal=1, position=41)], "after newer"),
    "a value not sent with a new key": (
        [
            change("d", 1, at=6, position=60),
            change(
                *("c", 7),
                at=6,
                ordinal=1,
                position=60,
                _unchanged=["bio"],
                _moved_from={"shop": "a", "item": 1},
            ),
        ],
        "a key changed",
    ),
}


@pytest.mark.parametrize(("batch", "reason"), ANEW.values(), ids=ANEW)
def test_what_cannot_be_added_makes_the_tables_anew(
    tables: Tables, batch: list[Row], reason: str
) -> None:
    tables.append(batch)

    for derived in tables.derive():
        assert reason in (derived.made_anew or "")

    assert tables.shown() == tables.expected()


def test_coming_late_for_another_key_is_not_late(tables: Tables) -> None:
    """A second partition of a topic is read after the first, and is older."""
    tables.append([put(11, at=2, position=21), put(12, at=3, position=31)])

    assert [derived.made_anew for derived in tables.derive()] == [None, None]
    assert tables.shown() == tables.expected()


def test_without_positions_what_is_read_later_is_newer(tables: Tables) -> None:
    tables = Tables(tables.lake.root + "_2")
    for position, name in enumerate(("first", "second", "third")):
        tables.append([put(1, at=None, position=position, name=name)])
        tables.derive()
        assert tables.shown() == tables.expected()
    assert [derived.made_anew for derived in tables.derive()] == [None, None]


def test_a_late_value_fills_what_was_not_sent(tables: Tables) -> None:
    """The row that is shown took its bio from the past, and the past becomes another."""
    tables.append([unsent(1, "bio", at=8)])
    tables.derive()
    tables.append([put(1, at=7, bio="short")])
    tables.derive()

    assert tables.shown() == tables.expected()


def test_values_that_were_never_sent_are_counted_until_they_are(tables: Tables) -> None:
    tables.append([unsent(9, "bio", "tags", at=6)])
    assert [derived.num_unavailable for derived in tables.derive()] == [1, 1]

    tables.append([unsent(9, "bio", at=7, tags=["t"])])
    assert [derived.num_unavailable for derived in tables.derive()] == [1, 2]

    tables.append([put(9, at=8, bio="at last")])
    current, history = tables.derive()
    assert (current.num_unavailable, history.num_unavailable) == (0, 2)
    assert tables.shown() == tables.expected()


def test_changes_that_were_erased_are_erased_from_the_derived_tables(tables: Tables) -> None:
    tables.lake.open("raw/items_changes").delete("item = 1")
    tables.batches = [[row for row in rows if row["item"] != 1] for rows in tables.batches]

    for derived in tables.derive():
        assert derived.made_anew == "changes were rewritten, removed or compacted"

    assert tables.shown() == tables.expected()


def test_compacted_changes_give_the_same_rows(tables: Tables) -> None:
    tables.append([put(1, at=6)])
    tables.lake.open("raw/items_changes").optimize.compact()
    tables.append([put(2, at=7)])
    tables.derive()

    assert tables.shown() == tables.expected()


def test_another_table_of_changes_is_noticed(tables: Tables) -> None:
    shutil.rmtree(tables.lake.uri("raw/items_changes"))
    tables.batches.clear()
    tables.lake.create("raw/items_changes", SCHEMA)
    tables.append([put(5, at=1)])

    for derived in tables.derive():
        assert derived.made_anew == "the table of changes is another one than before"

    assert tables.shown() == tables.expected()


def test_changes_whose_log_was_cleaned_make_the_tables_anew(tables: Tables) -> None:
    for at in (6, 7):
        tables.append([put(1, at=at)])
    log = Path(tables.lake.uri("raw/items_changes"), "_delta_log")
    tables.lake.open("raw/items_changes").create_checkpoint()
    for commit in log.glob("*.json"):
        if int(commit.stem) < tables.lake.version("raw/items_changes"):
            commit.unlink()

    for derived in tables.derive():
        assert "no longer in their log" in (derived.made_anew or "")

    assert tables.shown() == tables.expected()


def test_a_contract_that_grows_makes_the_tables_anew(tables: Tables) -> None:
    grown = replace(CONTRACT, fields=(*CONTRACT.fields, Field(name="color", type="string")))
    tables.lake.create("raw/items_changes", pa.schema([*SCHEMA, ("color", pa.string())]))

    current = derive_current(tables.lake, grown, changes="raw/items_changes", table="items")

    assert current.made_anew == "the columns changed"
    assert set(tables.lake.read("items")["color"].to_pylist()) == {None}


def test_a_table_that_somebody_else_wrote_is_made_anew(tables: Tables) -> None:
    for name in ("items", "items_history"):
        tables.lake.overwrite(name, tables.lake.read(name).slice(1))
        tables.lake.overwrite(name, tables.lake.read(name), metadata={"by": "somebody"})

    for derived in tables.derive():
        assert derived.made_anew == "the table does not say what it shows"

    assert tables.shown() == tables.expected()


def test_only_segments_of_open_rows_that_close_are_rewritten(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "SEGMENT_ROWS", 2)
    tables.derive("_by_two")
    before = set(tables.lake.files("items_history_by_two"))
    tables.append([put(1, at=6), put(9, at=7)])

    tables.derive("_by_two")

    gone = before - set(tables.lake.files("items_history_by_two"))
    assert len(gone) == 1
    assert "/_segment=0/" in gone.pop()
    rows = tables.lake.read("items_history_by_two")
    segments = rows.filter(pc.is_null(rows["valid_to"]))["_segment"].to_pylist()
    assert Counter(segments) == {0: 2, 1: 2, 2: 1}
    assert set(rows.filter(pc.is_valid(rows["valid_to"]))["_segment"].to_pylist()) == {None}
    assert tables.shown("_by_two") == tables.expected()


def test_several_runs_at_once_add_every_change_once(tables: Tables) -> None:
    tables.append([put(1, at=6), unsent(2, "bio", at=7), put(9, at=8)])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: tables.derive(), range(3)))

    assert tables.shown() == tables.expected()


PROGRAM = """
import pickle, sys
from scale_assets.ingest.derive import derive_current, derive_history
from scale_assets.lake import Lake
root, contract = pickle.loads(sys.stdin.buffer.read())
lake = Lake(root)
derive_current(lake, contract, changes="raw/items_changes", table="items")
derive_history(lake, contract, changes="raw/items_changes", table="items_history")
"""


TRUNCATED = ANEW["a truncate"][0]


@pytest.mark.fault
@pytest.mark.parametrize(
    ("batch", "fault"),
    [
        *((ADDED["twice"], fault) for fault in ("before_write:1", "after_merge:1")),
        *((ADDED["twice"], fault) for fault in ("before_write:2", "after_parquet:1")),
        *((ADDED["an update"], fault) for fault in ("before_write:1", "after_parquet:1")),
        *((TRUNCATED, fault) for fault in ("after_parquet:1", "after_parquet:2")),
    ],
)
def test_killed_between_the_commits_and_run_again_gives_the_same_rows(
    tables: Tables, batch: list[Row], fault: str
) -> None:
    tables.append(batch)
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps((tables.lake.root, CONTRACT)),
        env={**os.environ, "SCALE_FAULT": fault},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    tables.append([put(3, at=9)])
    tables.derive()

    assert tables.shown() == tables.expected()
