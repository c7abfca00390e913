"""The label spines: who is asked when, and what stays unanswered."""

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from scale_assets.lake import Lake
from scale_assets.lake.source_views import connect
from tests.dbt_project.conftest import EARLIER, Build
from tests.dbt_project.test_point_in_time import rows
from tests.dbt_project.tiny_lake import STARTS, instant, write_lake


def labels(connection: duckdb.DuckDBPyConnection, registration: str) -> dict[int, tuple[Any, Any]]:
    found = rows(
        connection, f"select * from withdrawal_labels where registration_id = '{registration}'"
    )
    return {
        row["presentation_day"]: (row["cancelled_within_7d"], row["cancelled_within_28d"])
        for row in found
    }


def test_a_cancelled_registration_leaves_the_spine(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert labels(warehouse, "AAA-2013B-2") == {28: (True, True)}  # cancelled on day 33
    assert labels(warehouse, "BBB-2013J-4") == {28: (True, True)}  # on day 35: 35 is too late
    assert list(labels(warehouse, "AAA-2013B-3")) == [28, 35, 42, 49]  # on day 50


def test_labels_wait_until_the_horizon_has_passed(earlier: duckdb.DuckDBPyConnection) -> None:
    # EARLIER is the end of day 51 of AAA-2013B, of day 32 of BBB-2013J.
    assert (EARLIER - instant(STARTS["AAA-2013B"])).days == 52
    assert labels(earlier, "AAA-2013B-1") == {
        28: (False, None),
        35: (False, None),
        42: (False, None),
        49: (None, None),
    }
    assert labels(earlier, "BBB-2013J-1") == {28: (None, None)}


def test_next_sites_are_those_of_the_first_active_day(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    found = rows(warehouse, "select * from next_site_labels")
    visits = rows(
        warehouse, "select distinct registration_id, site_id, event_day from int_site_visits"
    )
    assert len(found) > 50
    for row in found:
        mine = [each for each in visits if each["registration_id"] == row["registration_id"]]
        seen = {each["site_id"] for each in mine if each["event_day"] < row["cut_day"]}
        later = [each for each in mine if each["event_day"] >= row["cut_day"]]
        first = min(each["event_day"] for each in later)
        relevant = {each["site_id"] for each in later if each["event_day"] == first}
        assert seen
        assert set(row["relevant_site_ids"]) == relevant
        assert set(row["new_site_ids"]) == relevant - seen


@pytest.mark.slow
def test_known_label_counts(build: Build, oulad_dir: Path, tmp_path: Path) -> None:
    """The numbers of the data README, from the real registrations."""
    lake = write_lake(str(tmp_path / "lake"))
    _put_real_registrations(lake, oulad_dir)

    folder = build(lake, "run", "--select", "+withdrawal_labels")
    connection = connect(folder / "warehouse.duckdb", read_only=True)

    count = "select count(*) as n, avg(cancelled_within_{}d::int) as rate from withdrawal_labels "
    train, test = "where term in ('2013B', '2013J')", "where term = '2014B'"
    fortnightly = " and presentation_day % 14 = 0"
    assert rows(connection, count.format(7) + train)[0]["n"] == 270_923
    assert rows(connection, count.format(7) + test)[0]["n"] == 146_669
    assert rows(connection, count.format(28) + train + fortnightly)[0]["n"] == 140_937
    assert rows(connection, count.format(28) + test + fortnightly)[0]["n"] == 76_322
    assert rows(connection, count.format(7) + test)[0]["rate"] == pytest.approx(0.0079, abs=5e-5)


def _put_real_registrations(lake: Lake, oulad_dir: Path) -> None:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        f"""
        create view courses as
        select code_module || '-' || code_presentation as presentation_id,
            code_module as module_id, code_presentation as term,
            make_date(left(code_presentation, 4)::int,
                      if(right(code_presentation, 1) = 'B', 2, 10), 1) as starts_on,
            module_presentation_length::int as length_days
        from '{_table(oulad_dir, "courses")}';
        create view dated as
        select presentation_id, id_student::bigint as student_id, starts_on,
            starts_on + date_registration::int as registered_on,
            starts_on + date_unregistration::int as unregistered_on
        from '{_table(oulad_dir, "studentRegistration")}' as r
        join courses on presentation_id = code_module || '-' || code_presentation;
        create view created as
        select *, coalesce(registered_on, least(starts_on, unregistered_on)) as created_on from dated
        """
    )
    history = connection.sql(
        """
        select presentation_id, student_id, registered_on, null::date as unregistered_on, 'c' as op,
            created_on::timestamptz as valid_from, unregistered_on::timestamptz as valid_to,
            (created_on + 1)::timestamptz as received_at
        from created
        union all
        select presentation_id, student_id, registered_on, unregistered_on, 'u',
            unregistered_on::timestamptz, null, (unregistered_on + 1)::timestamptz
        from created where unregistered_on is not null
        """
    ).to_arrow_table()
    lake.overwrite("registrations_history", history)
    lake.overwrite("raw/presentations", connection.sql("from courses").to_arrow_table())
    # The clock must have passed every horizon.
    clock = pa.Table.from_pylist(
        [
            lake.read("raw/submissions").slice(0, 1).to_pylist()[0]
            | {"received_at": instant(date(2015, 9, 16))}
        ],
        schema=lake.schema("raw/submissions"),
    )
    lake.overwrite("raw/submissions", clock)


def _table(oulad_dir: Path, name: str) -> str:
    [found] = [path for path in oulad_dir.rglob("*.parquet") if path.stem == name]
    return str(found)
