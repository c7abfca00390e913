"""Generated transactions come out as they went in, however they are cut; broken bytes are refused."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scale_assets.ingest.postgres.blocks import Block
from scale_assets.ingest.postgres.decoder import Decoder
from scale_assets.ingest.postgres.errors import ProtocolError
from tests.ingest.postgres.wire import (
    UNCHANGED,
    Described,
    begin,
    commit,
    frame,
    logical_message,
    type_,
)

PLANS = Described(16384, "public", "plans")
WIDER = Described(
    16384, "public", "plans", columns=(("name", 25, False), ("id", 20, True), ("more", 23, False))
)
ORDERS = Described(16390, "shop", "orders", columns=(("number", 23, True),))
OTHERS = Described(16399, "public", "others", columns=(("x", 23, True),))
KEYS = {"public.plans": ("id",), "shop.orders": ("number",)}

Change = dict[str, Any]
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
ids = st.integers(-5, 5).map(str)


def decoded(*parts: Sequence[bytes]) -> list[Change]:
    """What the decoder says of messages that come in these parts, in the changes' order."""
    decoder = Decoder(KEYS)
    found = [
        change
        for part in parts
        for block in decoder.decode([frame(message) for message in part]).blocks
        for change in _changes(block)
    ]
    return sorted(found, key=lambda change: (change["lsn"], change["ordinal"], change["table"]))


def _changes(block: Block) -> Iterator[Change]:
    moved = [None] * len(block) if block.moved_from is None else block.moved_from.to_pylist()
    for row, about, before in zip(
        block.rows.to_pylist(), block.about.to_pylist(), moved, strict=True
    ):
        values = {
            name: None if v is None else v.decode(errors="replace") for name, v in row.items()
        }
        yield {
            "table": block.relation.table,
            "lsn": about["lsn"],
            "ordinal": about["tx_ordinal"],
            "op": about["op"],
            "row": values,
            "unchanged": about["unchanged"],
            "moved_from": before if before and any(before.values()) else None,
        }


@st.composite
def plan_changes(draw: st.DrawFn) -> tuple[list[bytes], list[Change]]:
    """One message about a plan, and the changes that it means."""
    kind = draw(st.sampled_from(["insert", "update", "key", "full", "delete", "truncate"]))
    id_, name, old = draw(ids), draw(st.none() | texts), draw(ids)
    row = {"id": id_, "name": name}
    gone = {"id": old, "name": None}
    move = {"id": old.encode()}
    if kind == "insert":
        return [PLANS.insert(id_, name)], [change("c", row)]
    if kind == "delete":
        return [PLANS.delete(old, None)], [change("d", gone)]
    if kind == "truncate":
        return [PLANS.truncate()], [change("t", {"id": None, "name": None})]
    if kind == "update":
        message = PLANS.update(id_, UNCHANGED)
        return [message], [change("u", {"id": id_, "name": None}, unchanged=["name"])]
    if kind == "key":
        message = PLANS.update(id_, name, key=[old, None])
    else:  # the old row has what was not sent again
        message = PLANS.update(id_, UNCHANGED if name else None, old=[old, name or None])
        row["name"] = name or None
    if old == id_:
        return [message], [change("u", row, ordinal=1)]
    return [message], [change("d", gone), change("c", row, ordinal=1, moved_from=move)]


def change(op: str, row: Change, *, ordinal: int = 0, **more: Any) -> Change:
    said = {"table": "plans", "op": op, "row": row, "unchanged": None, "moved_from": None}
    return said | {"ordinal": ordinal} | more


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[Change]]:
    """Whole transactions, their changes as they should come out."""
    messages, expected = [PLANS.message(), OTHERS.message()], []
    for number, parts in enumerate(
        draw(st.lists(st.lists(plan_changes(), max_size=6), max_size=5))
    ):
        lsn = 1000 * (number + 1)
        messages.append(begin(lsn))
        ordinal = 0
        for part, changes in parts:
            if draw(st.booleans()):
                messages.append(OTHERS.insert("1"))  # counts, and is not asked for
                ordinal += 1
            messages += part
            expected += [{**c, "lsn": lsn, "ordinal": ordinal + c["ordinal"]} for c in changes]
            ordinal += 1 + max(c["ordinal"] for c in changes)
        messages.append(commit(lsn))
    return messages, expected


@settings(max_examples=50, deadline=None)
@given(stream=streams(), data=st.data())
def test_any_stream_cut_anywhere_says_the_same(
    stream: tuple[list[bytes], list[Change]], data: st.DataObject
) -> None:
    messages, expected = stream
    cuts = sorted(data.draw(st.sets(st.integers(0, len(messages)), max_size=4)))
    parts = [messages[a:b] for a, b in zip([0, *cuts], [*cuts, len(messages)], strict=True)]

    found = decoded(*parts)

    assert found == sorted(expected, key=lambda each: (each["lsn"], each["ordinal"]))


@settings(max_examples=100, deadline=None)
@given(stream=streams(), data=st.data())
def test_broken_bytes_are_refused_or_harmless(
    stream: tuple[list[bytes], list[Change]], data: st.DataObject
) -> None:
    """A protocol error, never another one; what still has the form of a message is believed."""
    messages, _ = stream
    at = data.draw(st.integers(0, len(messages) - 1))
    message = bytearray(messages[at])
    if data.draw(st.booleans()):
        del message[data.draw(st.integers(0, len(message))) :]
    else:
        message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    messages[at] = bytes(message)
    with suppress(ProtocolError):
        decoded(messages)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_hostile_bytes_are_refused(messages: list[bytes]) -> None:
    with suppress(ProtocolError):
        Decoder(KEYS).decode(messages)
    with suppress(ProtocolError):
        Decoder(KEYS).decode([frame(message) for message in messages])


def test_each_row_has_the_columns_of_its_own_definition() -> None:
    """A relation that changes amid a transaction: names go with the values, places do not."""
    found = decoded(
        [
            *(PLANS.message(), begin(10), PLANS.insert("1", "a"), WIDER.message()),
            *(WIDER.insert("b", "2", "9"), WIDER.delete(None, "1", None), commit(10)),
        ],
        [
            begin(20),
            WIDER.insert("c", "3", None),
            PLANS.message(),
            PLANS.insert("4", "d"),
            commit(20),
        ],
    )

    assert [each["row"] for each in found] == [
        {"id": "1", "name": "a"},
        {"name": "b", "id": "2", "more": "9"},
        {"name": None, "id": "1", "more": None},
        {"name": "c", "id": "3", "more": None},
        {"id": "4", "name": "d"},
    ]


def test_one_truncate_of_two_tables_empties_both() -> None:
    both = struct.pack(">cIBII", b"T", 2, 0, PLANS.oid, ORDERS.oid)
    found = decoded([PLANS.message(), ORDERS.message(), begin(5), both, commit(5)])

    assert [(each["op"], each["table"]) for each in found] == [("t", "orders"), ("t", "plans")]


def test_a_domain_is_what_it_is_made_of() -> None:
    described = Described(16384, "public", "plans", columns=(("id", 20, True), ("n", 99999, False)))
    decoder = Decoder(KEYS)
    messages = [type_(99999, "", "int4"), described.message(), begin(1), described.insert("1", "2")]
    (block,) = decoder.decode([frame(message) for message in [*messages, commit(1)]]).blocks

    assert block.types == ("int8", "int4")


def test_messages_and_transactions_without_changes_pass() -> None:
    decoder = Decoder(KEYS)
    messages = [
        *(logical_message("beat", b"", is_transactional=False), begin(9)),
        *(logical_message("scale", b"\0\xff"), commit(9)),
    ]
    said = decoder.decode([frame(message) for message in messages])

    assert [(each.prefix, each.content) for each in said.messages] == [
        ("beat", b""),
        ("scale", b"\0\xff"),
    ]
    assert (said.last_commit, said.num_changes, said.blocks) == (9, 0, [])


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([PLANS.message(), PLANS.insert("1", "a")], "do not enclose"),
        ([begin(1), begin(2)], "do not enclose"),
        ([commit(1)], "do not enclose"),
        ([begin(1), PLANS.insert("1", "a"), commit(1)], "changes before it is described"),
        ([begin(1), commit(2)], "another log position"),
        ([begin(2**60), commit(2**60)], "log position is 1152921504606846976"),
        ([begin(1, at_us=2**62), commit(1)], "time of commit is 4611686018427387904"),
        ([PLANS.message(), begin(1), PLANS.insert("1")], "1 columns in a relation of 2"),
        ([PLANS.message(), begin(1), PLANS.insert("1", "a") + b"x"], "goes on after its last row"),
        ([PLANS.message(), begin(1), PLANS.insert("1", "a")[:-1]], "beyond the end"),
        ([PLANS.message(), begin(1), PLANS.insert("1", "a").replace(b"t", b"b")], "kind 'b'"),
        ([b"S\0\0\0\1\1"], "message 'S'"),
        ([PLANS.message()[:-1]], "does not end where it should"),
    ],
)
def test_a_refusal_says_what_is_wrong(messages: list[bytes], what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        decoded(messages)


def test_a_replaying_database_says_when_its_transactions_happened() -> None:
    """Only to a capture that is told to listen, and for a transaction that is cut in two as well."""
    said = logical_message(
        "scale.clock",
        b'{"event_time": "2013-02-01T00:00:00+00:00", "received_at": "2013-02-02T00:00:00+00:00"}',
    )
    messages = [PLANS.message(), begin(9), said, PLANS.insert("1", None)]
    rest = [PLANS.insert("2", None), commit(9), begin(10), PLANS.insert("3", None), commit(10)]
    times = {}
    for listens in (True, False):
        decoder = Decoder(KEYS, simulated_clock=listens)
        blocks = [
            *decoder.decode([frame(message) for message in messages]).blocks,
            *decoder.decode([frame(message) for message in rest]).blocks,
        ]
        about = [row for block in blocks for row in block.about.to_pylist()]
        times[listens] = [(row["event_time"].day, row["received_at"].day) for row in about]

    assert times == {True: [(1, 2), (1, 2), (1, 1)], False: [(1, 1)] * 3}
    broken = [begin(9), logical_message("scale.clock", b"{}"), commit(9)]
    with pytest.raises(ProtocolError, match="write JSON with event_time and received_at"):
        Decoder(KEYS, simulated_clock=True).decode([frame(message) for message in broken])
