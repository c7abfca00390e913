"""Added to or made anew, the derived tables hold what a naive replay of the changes says."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from scale_assets.contracts import Contract, Field, change_schema
from scale_assets.ingest.derive import Derived, derive_current, derive_history
from scale_assets.ingest.feed import SOURCE_FIELDS
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


def check(batches: list[list[Row]]) -> None:
    with TemporaryDirectory() as folder:
        tables = Tables(folder)
        for batch in batches:
            tables.append(batch)
            tables.derive()
            assert tables.shown() == tables.expected()
        tables.derive("_anew")
        assert tables.shown("_anew") == tables.shown()


SLOWLY = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(batches=logs())
@settings(SLOWLY, max_examples=8)
def test_adding_equals_making_anew_equals_a_naive_replay(batches: list[list[Row]]) -> None:
    check(batches)


@pytest.mark.slow
@given(batches=logs())
@settings(SLOWLY, max_examples=300)
def test_adding_equals_making_anew_equals_a_naive_replay_at_length(
    batches: list[list[Row]],
) -> None:
    check(batches)
