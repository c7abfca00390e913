"""A declared capture: its tables in one step, its checks, and what may be asked of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from scale_assets.components.change_feed import ChangeFeed
from scale_assets.components.database_capture import DatabaseCapture
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource
from tests.ingest.postgres.conftest import ORDERS, PLANS, TABLES
from tests.ingest.postgres.server import Server, drop_slots, fresh_database, running_server

CHANGES = [dg.AssetKey(["raw", f"{name}_changes"]) for name in ("orders", "plans")]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def database(
    server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    dsn = fresh_database(server, f"test_{abs(hash(request.node.nodeid)) % 10**12}")
    monkeypatch.setenv("SCALE_POSTGRES__SHOP", dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        yield connection
    drop_slots(server)


class Project:
    """The capture's definitions over a lake of its own."""

    def __init__(self, folder: Path, component: dg.Component) -> None:
        self.lake = Lake(folder / "lake")
        self.definitions = dg.Definitions.merge(
            component.build_defs(dg.ComponentTree.for_test().load_context),
            dg.Definitions(
                resources={
                    "lake": LakeResource(root=self.lake.root),
                    "settings": SettingsResource(),
                }
            ),
        )

    def run(self, **config: object) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        step = next(node.name for node in job.nodes if node.name.startswith("capture_"))
        return job.execute_in_process(
            run_config={"ops": {step: {"config": config}}}, raise_on_error=False
        )


def declared(folder: Path, name: str, contract: str, key: list[str]) -> dict[str, Any]:
    path = folder / f"{name}.odcs.yaml"
    path.write_text(contract)
    return {"name": name, "table": f"public.{name}", "contract": str(path), "key": key}


def both(folder: Path, **others: object) -> Project:
    attributes = {
        "name": "shop",
        "connection": "shop",
        "slot": "components",
        "publication": "components",
        "tables": [
            declared(folder, "plans", PLANS, ["id"]),
            declared(folder, "orders", ORDERS, ["shop", "number"]),
        ],
    }
    return Project(folder, DatabaseCapture.from_attributes_dict(attributes=attributes | others))


def test_one_step_fills_every_table_and_what_derives_from_it(
    tmp_path: Path, database: psycopg.Connection[Any]
) -> None:
    database.execute("insert into plans values (1, 10, 'a'), (2, 20, null)")
    project = both(tmp_path)
    first = project.run()
    database.execute("update plans set price = 11 where id = 1")
    database.execute("delete from plans where id = 2")
    database.execute("insert into orders values ('a', 1, 2.5, null)")
    second = project.run()

    assert first.success
    assert second.success
    current = project.lake.read("plans").to_pylist()
    assert [(row["id"], row["price"]) for row in current] == [(1, 11)]
    assert project.lake.num_rows("plans_history") == 4
    assert project.lake.num_rows("orders") == 1
    checks = {(e.asset_key, e.check_name): e.passed for e in second.get_asset_check_evaluations()}
    assert {key for key, _ in checks} == set(CHANGES)
    assert len(checks) == 6
    assert all(checks.values())
    counts = {
        event.asset_key: event.materialization.metadata["accepted"].value
        for event in second.get_asset_materialization_events()
        if event.asset_key in CHANGES
    }
    assert counts == dict(zip(CHANGES, (1, 2), strict=True))


def test_a_lost_slot_fails_the_run_and_a_run_that_resyncs_mends_it(
    tmp_path: Path, database: psycopg.Connection[Any]
) -> None:
    database.execute("insert into plans values (1, 10, 'a'), (2, 20, null)")
    project = both(tmp_path)
    project.run()
    database.execute("select pg_drop_replication_slot('components')")
    database.execute("delete from plans where id = 1")

    failed = project.run()
    assert not failed.success
    assert "slot components is gone" in str(failed.all_events)
    assert "the captured tables are" in str(project.run(resync=["public.users"]).all_events)
    assert project.run(resync=["*"]).success
    assert [row["id"] for row in project.lake.read("plans").to_pylist()] == [2]


def test_a_change_feed_may_have_a_slot_of_its_own(
    tmp_path: Path, database: psycopg.Connection[Any]
) -> None:
    table = declared(tmp_path, "plans", PLANS, ["id"])
    transport = {
        "type": "postgres",
        "connection": "shop",
        "slot": "components",
        "publication": "components",
        "table": table.pop("table"),
    }
    feed = ChangeFeed.from_attributes_dict(attributes={**table, "transport": transport})
    database.execute("insert into plans values (1, 10, 'a')")
    project = Project(tmp_path, feed)

    assert project.run().success
    assert project.lake.num_rows("plans") == 1


def test_the_sensor_sees_that_there_is_something_new(
    tmp_path: Path, database: psycopg.Connection[Any]
) -> None:
    project = both(tmp_path)
    (sensor,) = project.definitions.sensors or []
    assert isinstance(sensor, dg.SensorDefinition)

    def asks(cursor: str | None) -> tuple[int, str | None]:
        context = dg.build_sensor_context(
            cursor=cursor, resources={"settings": SettingsResource()}, sensor_name=sensor.name
        )
        tick = sensor.evaluate_tick(context)
        return len(tick.run_requests or []), tick.cursor

    requested, cursor = asks(None)
    assert requested == 1
    assert asks(cursor)[0] == 0
    database.execute("insert into plans values (1, 10, 'a')")
    database.execute("select pg_stat_force_next_flush()")
    assert asks(cursor)[0] == 1


def test_a_database_that_the_settings_do_not_know_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading the definitions needs neither the secret nor the network."""
    monkeypatch.delenv("SCALE_POSTGRES__SHOP", raising=False)
    failed = both(tmp_path, connection="nowhere").run()
    assert "set SCALE_POSTGRES__NOWHERE to its DSN" in str(failed.all_events)


def test_a_key_that_is_not_the_contracts_is_refused(tmp_path: Path) -> None:
    wrong = [declared(tmp_path, "plans", PLANS, ["price"])]
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="is not the primary key"):
        both(tmp_path, tables=wrong)
