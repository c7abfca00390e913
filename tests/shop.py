"""A project of one event stream, and `scale` as its user calls it."""

import os
import subprocess
import sys
from pathlib import Path

DG_TOML = """\
directory_type = "project"

[project]
root_module = "shop"
code_location_name = "shop"
registry_modules = ["scale_assets.components"]
"""
STREAM = """\
type: scale_assets.components.EventStream
attributes:
  name: orders
  contract: orders.odcs.yaml
  transport: {type: files, path: orders}
  key: [order_id]
  event_time: at
  dedup_horizon_days: 7
  calendar: {start: "2026-01-01"}
"""
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: order_id, logicalType: string, primaryKey: true, primaryKeyPosition: 1}
      - name: at
        logicalType: timestamp
        required: true
"""


def write_shop(project: Path) -> Path:
    """Write the project into this folder; gives the folder of its declaration."""
    folder = project / "shop" / "defs" / "orders"
    folder.mkdir(parents=True)
    (project / "dg.toml").write_text(DG_TOML)
    (folder / "defs.yaml").write_text(STREAM)
    (folder / "orders.odcs.yaml").write_text(CONTRACT)
    return folder


def scale(*arguments: str, project: Path) -> subprocess.CompletedProcess[str]:
    """With no setting of the caller's."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SCALE_")
    }
    return subprocess.run(
        [sys.executable, "-m", "scale_assets", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
