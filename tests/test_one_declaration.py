"""A small project of its own: a renamed column flows everywhere, or every consumer is told.

Declared as a user does: a contract, a dbt mart with `meta: feature_view`, a Feast repository, a
training set and a release; loaded in a process of its own, as `dg check defs` loads it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "dg.toml": """
directory_type = "project"
[project]
root_module = "shop"
code_location_target_module = "scale_assets.definitions"
""",
    "shop/__init__.py": "",
    "shop/defs/orders/orders.odcs.yaml": """
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
team: {name: "team:shop"}
schema:
  - name: orders
    properties:
      - {name: order_id, logicalType: string, primaryKey: true}
      - {name: ordered_at, logicalType: timestamp, required: true}
      - {name: customer, logicalType: string, required: true}
      - {name: cents, logicalType: integer, required: true}
""",
    "shop/defs/orders/defs.yaml": """
type: scale_assets.components.EventStream
attributes:
  name: orders
  contract: orders.odcs.yaml
  transport: {type: files, path: orders}
  key: [order_id]
  event_time: ordered_at
  calendar: {start: "2026-01-01"}
""",
    "shop/defs/warehouse/defs.yaml": """
type: scale_assets.components.WarehouseModels
attributes: {project: warehouse}
""",
    "shop/defs/features/defs.yaml": """
type: scale_assets.components.FeatureViews
attributes:
  repo: repo
  clock: {table: raw/orders, column: ordered_at}
""",
    "shop/defs/dataset/defs.yaml": """
type: scale_assets.components.TrainingSet
attributes:
  name: churn
  feature_service: churn_v1
  repo: repo
  tabular:
    table: labels
    entity: customer
    time: label_time
    labels: [churned]
    where: churned is not null
    split_column: term
    splits: {train: [a], test: [b]}
    max_single_feature_auc: 0.9
""",
    "shop/defs/release/defs.yaml": """
type: scale_assets.components.Release
attributes:
  name: churn
  feature_service: churn_v1
  repo: repo
  inputs: {spend: spending.cents_7d}
  fallback: [fresh]
""",
    "warehouse/dbt_project.yml": "name: warehouse\nprofile: warehouse\nmodels: {+contract: {enforced: true}}\n",
    "warehouse/profiles.yml": """
warehouse:
  target: duckdb
  outputs:
    duckdb: {type: duckdb, path: "{{ env_var('SCALE_WAREHOUSE_PATH') }}"}
""",
    "warehouse/models/sources.yml": """
sources:
  - name: lake
    tables:
      - name: orders
        config: {meta: {dagster: {asset_key: [raw, orders]}}}
        columns: [{name: customer}, {name: cents}, {name: ordered_at}]
""",
    "warehouse/models/spending.sql": """
select customer, ordered_at as feature_time, sum(cents) as cents_7d, count(*) as orders_7d
from {{ source('lake', 'orders') }} group by 1, 2
""",
    "warehouse/models/spending.yml": """
models:
  - name: spending
    config:
      tags: [mart]
      meta: {feature_view: {entity: customer, feature_time: feature_time, ttl: {days: 7}}}
    columns:
      - {name: customer, data_type: varchar}
      - {name: feature_time, data_type: timestamptz}
      - {name: cents_7d, data_type: bigint}
      - {name: orders_7d, data_type: bigint}
""",
    "warehouse/models/labels.sql": """
select customer, feature_time as label_time, 'a' as term, cents_7d = 0 as churned
from {{ ref('spending') }}
""",
    "warehouse/models/labels.yml": """
models:
  - name: labels
    config: {tags: [mart]}
    columns:
      - {name: customer, data_type: varchar}
      - {name: label_time, data_type: timestamptz}
      - {name: term, data_type: varchar}
      - {name: churned, data_type: boolean}
""",
    "repo/feature_store.yaml": "project: shop\n",
    "repo/features.py": """
from dbt_views import dbt_views
from feast import Entity, FeatureService, ValueType

customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)
views = dbt_views("../warehouse", entities=[customer])
globals().update(views)
churn_v1 = FeatureService(name="churn_v1", features=[views["spending"][["cents_7d", "orders_7d"]]])
""",
}
COLUMNS = """
import json, sys, warnings
warnings.simplefilter("ignore")
from scale_assets.components.columns import all_specs, deps_by_column, schema_columns
from scale_assets.definitions import defs
found = {s.key.to_user_string(): sorted(deps_by_column(s.metadata) or ()) for s in all_specs(defs())}
print(json.dumps(found))
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copy(ROOT / "feature_repo" / "dbt_views.py", tmp_path / "repo")
    return tmp_path


def rename(project: Path, *files: str, old: str, new: str) -> None:
    for name in files:
        text = (project / name).read_text()
        assert old in text, name
        (project / name).write_text(text.replace(old, new))


def load(project: Path, code: str = COLUMNS) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCALE_")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "SCALE_DATA_DIR": str(project / ".data")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def columns(project: Path) -> dict[str, Any]:
    done = load(project)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refusal(project: Path) -> str:
    done = load(project)
    assert done.returncode != 0
    return done.stderr.partition("ColumnsMissing: ")[2].strip()


def test_a_column_renamed_where_it_is_declared_and_picked_flows_everywhere(project: Path) -> None:
    everywhere = [
        *("warehouse/models/spending.sql", "warehouse/models/spending.yml", "repo/features.py"),
        *("warehouse/models/labels.sql", "shop/defs/release/defs.yaml"),
    ]
    rename(project, *everywhere, old="cents_7d", new="spent_7d")

    after = columns(project)
    assert after["online/spending"] == ["customer", "orders_7d", "spent_7d"]
    assert after["training/churn/dataset"] == [
        *("churned", "customer", "label_time", "orders_7d", "spent_7d")
    ]


def test_a_renamed_feature_is_refused_with_its_consumers(project: Path) -> None:
    marts = ["warehouse/models/spending.sql", "warehouse/models/spending.yml"]
    rename(project, *marts, old="cents_7d", new="spent_7d")

    assert refusal(project).splitlines() == [
        "online/spending has no column 'cents_7d'; did you mean spent_7d? It is named by",
        "  repo/features.py:8: online/spending",
        "  shop/defs/release/defs.yaml: release/churn",
        "spending has no column 'cents_7d'; did you mean spent_7d? It is named by",
        "  warehouse/models/labels.sql: labels",
    ]


def test_every_rename_is_refused_with_the_files_that_kept_the_name(project: Path) -> None:
    """In a contract, in a mart's yml alone, in a table of labels."""
    orders, labels = "shop/defs/orders/orders.odcs.yaml", "warehouse/models/labels"
    rename(project, orders, old="name: cents", new="name: amount")
    rename(project, "warehouse/models/spending.yml", old="orders_7d", new="num_orders_7d")
    rename(project, f"{labels}.sql", f"{labels}.yml", old="churned", new="has_churned")

    assert refusal(project).splitlines() == [
        "labels has no column 'churned'; did you mean has_churned? It is named by",
        "  shop/defs/dataset/defs.yaml: training/churn/dataset",
        "online/spending has no column 'orders_7d'; did you mean num_orders_7d? It is named by",
        "  repo/features.py:8: online/spending",
        (
            "raw/orders has no column 'cents'; it has _position, _source_file, amount, customer, "
            "event_date, order_id, ordered_at. It is named by"
        ),
        "  warehouse/models/sources.yml: spending",
        "  warehouse/models/spending.sql: spending",
        "spending has no column 'num_orders_7d'; did you mean orders_7d? It is named by",
        "  shop/defs/features/defs.yaml: online/spending",
        "  warehouse/models/spending.yml: spending",
    ]
