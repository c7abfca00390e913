"""Lineage of dbt models from their SQL: through CTEs and stars, and of columns that are not there."""

from typing import Any

import pytest

from scale_assets.components.dbt_lineage import ModelLineage, derive

EVENTS = ("source.shop.lake.events", "events", ["user_id", "page", "day", "n"])
USERS = ("source.shop.lake.users", "users", ["user_id", "country"])
PAGES = """
with events as (select * from "db"."lake"."events"),
per_user as (select user_id, count(distinct page) as pages, sum(n) as n from events where day > 3 group by 1)
select per_user.*, users.country, n * 2 as twice
from per_user left join "db"."lake"."users" as users on per_user.user_id = users.user_id
"""


def lineage_of(sql: str | None, *, columns: tuple[str, ...] = ()) -> ModelLineage:
    return derive(manifest({"pages": sql}, columns))["model.shop.pages"]


def manifest(models: dict[str, str | None], columns: tuple[str, ...] = ()) -> dict[str, Any]:
    sources = {
        unique_id: {
            "schema": "lake",
            "identifier": name,
            "database": "db",
            "columns": dict.fromkeys(named),
        }
        for unique_id, name, named in (EVENTS, USERS)
    }
    names = list(models)
    nodes = {
        f"model.shop.{name}": {
            "resource_type": "model",
            "schema": "main",
            "alias": name,
            "database": "db",
            "compiled_code": sql,
            "columns": dict.fromkeys(columns),
            "depends_on": {
                "nodes": [*sources, *(f"model.shop.{each}" for each in names[: names.index(name)])]
            },
        }
        for name, sql in models.items()
    }
    return {"metadata": {"adapter_type": "duckdb"}, "sources": sources, "nodes": nodes}


def test_columns_are_followed_through_ctes_and_stars() -> None:
    found = lineage_of(PAGES)

    events, users = EVENTS[0], USERS[0]
    assert found.columns == {
        "user_id": [(events, "user_id")],
        "pages": [(events, "page")],
        "n": [(events, "n")],
        "country": [(users, "country")],
        "twice": [(events, "n")],
    }
    assert found.reads == [(events, "day"), (users, "user_id")]  # to filter, to join


def test_a_models_columns_are_known_to_the_next_one() -> None:
    found = derive(manifest({"pages": PAGES, "top": 'select * from "db"."main"."pages"'}))

    assert found["model.shop.top"].columns["twice"] == [("model.shop.pages", "twice")]


@pytest.mark.parametrize(
    "sql",
    [
        'select visitor from "db"."lake"."events"',
        'select e.visitor as user_id from "db"."lake"."events" e',
        'with e as (select * from "db"."lake"."events") select e.visitor + 1 as v from e',
        'select e.n from "db"."lake"."events" e join "db"."lake"."users" u on e.visitor = u.user_id',
        'select n from "db"."lake"."events" where visitor is null',
    ],
)
def test_a_column_that_is_not_there_is_among_what_is_read(sql: str) -> None:
    found = lineage_of(sql)

    read = {*found.reads, *(dep for deps in found.columns.values() for dep in deps)}
    assert (EVENTS[0], "visitor") in read
    assert not found.problem


@pytest.mark.parametrize(
    "sql",
    [
        'select n as total from "db"."lake"."events" order by total',
        'select page, sum(n) as total from "db"."lake"."events" group by page having total > 1',
        'select list_transform([n], x -> x + 1) as more from "db"."lake"."events"',
        'select [x + 1 for x in [n]] as more from "db"."lake"."events"',
        'select count(*) as total from "db"."lake"."events"',
        'select u.item from "db"."lake"."events", unnest([n]) as u(item)',
    ],
)
def test_a_name_that_is_no_column_is_not_read(sql: str) -> None:
    found = lineage_of(sql)

    read = {*found.reads, *(dep for deps in found.columns.values() for dep in deps)}
    assert read <= {(EVENTS[0], "n"), (EVENTS[0], "page")}
    assert not found.problem


def test_names_fold_as_the_engine_folds_them() -> None:
    assert lineage_of('select N as Total from "db"."lake"."EVENTS"').columns == {
        "total": [(EVENTS[0], "n")]
    }


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        (None, "did not compile it"),
        ("select from where (", "sqlglot:"),
        ("create table x (a int)", "no query"),
    ],
)
def test_what_cannot_be_read_says_why(sql: str | None, problem: str) -> None:
    found = lineage_of(sql)

    assert problem in found.problem
    assert found.columns == {}
