"""Every built-in type as a contract reads it, from the snapshot and from the stream alike.

One table has a column for each case; one capture of it serves all of them.
"""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import feed_of
from tests.ingest.postgres.server import Server, drop_slots, fresh_database

HEAD = """\
apiVersion: v3.1.0
kind: DataContract
id: things
name: things
version: 1.0.0
status: active
schema:
  - name: things
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
"""
OWN_TYPES = """
    create type mood as enum ('sad', 'glad');
    create domain positive as int check (value > 0);
    create domain day as date;
    create domain holiday as day;
"""
READ = [  # type, contract's type, value, as it arrives
    ("smallint", "integer", "-32768", -32768),
    ("bigint", "integer", "9223372036854775807", 2**63 - 1),
    ("oid", "integer", "4294967295", 2**32 - 1),
    ("int", "number", "3", 3.0),
    ("real", "number", "0.1", 0.1),
    ("double precision", "number", "'1e-300'", 1e-300),
    ("numeric(10, 2)", "number", "-12.50", -12.5),
    ("numeric(10, 2)", "integer", "12.00", 12),
    ("numeric", "string", "1.000000000000000000000001", "1.000000000000000000000001"),
    ("boolean", "boolean", "false", False),
    ("text", "string", "E'a\\n\"b\",\\\\N'", 'a\n"b",\\N'),
    ("text", "string", "''", ""),
    ("text", "string", "'\\.'", "\\."),
    ("varchar(5)", "string", "'äöü€𝄞'", "äöü€𝄞"),
    ("char(4)", "string", "'ab'", "ab  "),
    ("bytea", "string", "'\\x00ff'", "\\x00ff"),
    ("json", "string", "'{\"a\":  [1]}'", '{"a":  [1]}'),
    ("jsonb", "string", "'{\"a\":  [1]}'", '{"a": [1]}'),
    ("uuid", "string", f"'{'a' * 32}'", "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"),
    ("date", "date", "'2013-02-01'", date(2013, 2, 1)),
    ("date", "string", "'infinity'", "infinity"),
    ("time", "string", "'10:00:00.5'", "10:00:00.5"),
    ("timetz", "string", "'10:00+02'", "10:00:00+02"),
    ("timestamp", "timestamp", "'2013-02-01 10:00'", datetime(2013, 2, 1, 10, tzinfo=UTC)),
    (
        "timestamptz",
        "timestamp",
        "'2013-02-01 10:00:00.000001+02'",
        datetime(2013, 2, 1, 8, 0, 0, 1, tzinfo=UTC),
    ),
    ("interval", "string", "'1 month 2 days 03:04:05'", "P1M2DT3H4M5S"),
    ("int[]", "string", "'{1,null,3}'", "{1,NULL,3}"),
    ("text[]", "string", "array['a', 'b c']", '{a,"b c"}'),
    ("inet", "string", "'10.0.0.1/8'", "10.0.0.1/8"),
    ("money", "string", "'1.5'", "$1.50"),
    ("int4range", "string", "'[1,5)'", "[1,5)"),
    ("bigint", "integer", "null", None),
    ("mood", "string", "'glad'", "glad"),
    ("positive", "integer", "3", 3),
    ("holiday", "date", "'2013-12-25'", date(2013, 12, 25)),
]
REFUSED = [  # type, contract's type, value, rule, what the reason names
    ("timestamptz", "timestamp", "'infinity'", "bad_format", "infinity"),
    ("timestamp", "timestamp", "'-infinity'", "bad_format", "-infinity"),
    ("timestamptz", "timestamp", "'0044-03-15 BC'", "bad_format", "BC"),
    ("timestamptz", "timestamp", "'20000-01-01'", "bad_format", "20000-01-01"),
    ("date", "date", "'-infinity'", "bad_format", "-infinity"),
    ("date", "date", "'0044-03-15 BC'", "bad_format", "0044-03-15 BC"),
    ("numeric", "number", "'NaN'", "out_of_range", "finite"),
    ("double precision", "number", "'-Infinity'", "out_of_range", "finite"),
    ("numeric", "number", f"1{'0' * 400}", "out_of_range", "finite"),
    ("numeric", "integer", "1.5", "bad_format", "1.5"),
    ("numeric", "integer", "9223372036854775808", "bad_format", "9223372036854775808"),
    ("double precision", "integer", "1", "wrong_type", "float8"),
    ("int", "string", "1", "wrong_type", "int4"),
    ("text", "integer", "'1'", "wrong_type", "text"),
    ("text", "boolean", "'t'", "wrong_type", "text"),
]
CASES = [case[:3] for case in (*READ, *REFUSED)]
FIRST_REFUSED = 1000


@pytest.fixture(scope="module")
def lake(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A row with every value that fits, and one for each that does not: read, then streamed."""
    folder = tmp_path_factory.mktemp("types")
    dsn = fresh_database(postgres, "types")
    spec = CaptureSpec(
        name="types", database=Database("types", dsn), slot="types", publication="types"
    )
    fields = "".join(
        f"      - {{name: c{at}, logicalType: {logical}}}\n"
        for at, (_, logical, _) in enumerate(CASES)
    )
    feed = feed_of(spec, folder, "things", HEAD + fields)
    lake = Lake(folder / "lake")
    with psycopg.connect(dsn, autocommit=True) as connection:
        columns = ", ".join(f"c{at} {sql_type}" for at, (sql_type, _, _) in enumerate(CASES))
        connection.execute(f"{OWN_TYPES} create table things (id int primary key, {columns})")
        _insert(connection, first=1)
        Capture(lake, spec, [feed]).run()
        _insert(connection, first=2)
        Capture(lake, spec, [feed]).run()
    assert account(lake, feed).is_exact
    yield lake
    drop_slots(postgres)


def _insert(connection: psycopg.Connection[Any], *, first: int) -> None:
    names = ", ".join(f"c{at}" for at in range(len(READ)))
    literals = ", ".join(case[2] for case in READ)
    connection.execute(f"insert into things (id, {names}) values ({first}, {literals})")
    for at, case in enumerate(REFUSED):
        id_ = FIRST_REFUSED + 2 * at + first
        connection.execute(f"insert into things (id, c{len(READ) + at}) values ({id_}, {case[2]})")


@pytest.mark.parametrize("at", range(len(READ)), ids=[f"{c[0]} as {c[1]}" for c in READ])
def test_a_value_arrives_as_the_contract_says(lake: Lake, at: int) -> None:
    rows = lake.read("raw/things_changes").sort_by("id")

    assert rows["id"].to_pylist() == [1, 2]
    assert rows[f"c{at}"].to_pylist() == [READ[at][3]] * 2


@pytest.mark.parametrize("at", range(len(REFUSED)), ids=[f"{c[0]} as {c[1]}" for c in REFUSED])
def test_what_does_not_fit_is_set_aside_with_its_reason(lake: Lake, at: int) -> None:
    rule, named = REFUSED[at][3:]
    refused = lake.read("raw/things_quarantine").sort_by("_position").to_pylist()
    found = [row for row in refused if row["field"] == f"c{len(READ) + at}"]

    assert [(row["rule"], named in row["reason"]) for row in found] == [(rule, True)] * 2
    first = FIRST_REFUSED + 2 * at
    raws = [json.loads(row["raw"]) for row in found]
    assert [(raw["op"], raw["after"]["id"]) for raw in raws] == [("r", first + 1), ("c", first + 2)]
    assert len({row["_position"] for row in refused}) == len(refused) == 2 * len(REFUSED)
