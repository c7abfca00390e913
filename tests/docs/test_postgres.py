"""docs/guides/postgres.md as written: its SQL prepares a server, its YAML captures from it."""

import re
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import yaml

from scale_assets.components.database_capture import DatabaseCapture
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource
from tests.ingest.postgres.conftest import ORDERS, PLANS
from tests.ingest.postgres.server import running_server

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "postgres.md"
TABLES = """
    create table customers (id bigint primary key, price int not null, terms text);
    create table orders (
        shop text not null, number int not null, amount numeric, placed_at timestamptz
    );
    create unique index orders_number on orders (shop, number);
    create table notes (text text)
"""


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_the_guide_leads_to_a_running_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake")
    with running_server() as server, psycopg.connect(server.dsn(), autocommit=True) as database:
        database.execute(TABLES)
        *preparing, looking, leaving = blocks("sql")
        for statement in ";".join(preparing).split(";"):
            database.execute(statement)
        database.execute("insert into customers values (1, 10, null)")
        monkeypatch.setenv("SCALE_POSTGRES__SHOP", server.dsn(user="capture"))
        assert materialized(tmp_path, lake)
        database.execute("update orders set amount = 2")
        database.execute("insert into orders values ('a', 1, 1, null)")
        database.execute("delete from orders")
        assert materialized(tmp_path, lake)
        assert database.execute(looking).fetchone()
        for statement in leaving.split(";"):
            database.execute(statement)
        assert database.execute(looking).fetchone() is None
    assert lake.num_rows("customers") == 1
    assert lake.read("raw/orders_changes")["op"].to_pylist() == ["c", "d"]


def materialized(folder: Path, lake: Lake) -> bool:
    (declared,) = blocks("yaml")
    for name, contract in (("customers", PLANS), ("orders", ORDERS)):
        (folder / f"{name}.odcs.yaml").write_text(contract)
    attributes = yaml.safe_load(declared)["attributes"]
    for table in attributes["tables"]:
        table["contract"] = str(folder / table["contract"])
    component = DatabaseCapture.from_attributes_dict(attributes=attributes)
    definitions = component.build_defs(dg.ComponentTree.for_test().load_context)
    resources = {"lake": LakeResource(root=lake.root), "settings": SettingsResource()}
    return dg.materialize(list(definitions.assets or []), resources=resources).success
