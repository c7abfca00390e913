"""Column schema and lineage of dbt models, derived once per state of the dbt project.

Deriving lineage parses every model's SQL: more CPU than building small models. It depends on
the project alone, so a run derives what no earlier run of the same project has.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator

Columns = dict[str, Any]  # the metadata values of one model, by name

FILE = "columns.json"
KEYS = ("dagster/column_schema", "dagster/column_lineage")


def column_metadata(
    invocation: DbtCliInvocation, built: Iterable[dg.Output[Any]]
) -> dict[str, Columns]:
    """Schema and lineage by unique id of the model, of all models that were built."""
    path = invocation.target_path / FILE
    state = _state(invocation.manifest)
    known = _read(path, state)
    missing = [event for event in built if unique_id(event) not in known]
    if not missing:
        return known
    derived = {}
    for event in DbtEventIterator(iter(missing), invocation).fetch_column_metadata():
        columns = {name: event.metadata[name] for name in KEYS if name in event.metadata}
        derived[unique_id(event)] = columns
    # dagster-dbt only warns where it fails; the next run tries those again.
    complete = {name: columns for name, columns in derived.items() if len(columns) == len(KEYS)}
    _write(path, state, known | complete)
    return known | derived


def unique_id(event: Any) -> str:
    return str(event.metadata["unique_id"].value)


def _state(manifest: Mapping[str, Any]) -> str:
    """Changes with any model, any declared source column, and the version of dagster-dbt."""
    models = {name: node["checksum"]["checksum"] for name, node in manifest["nodes"].items()}
    macros = {name: macro["macro_sql"] for name, macro in manifest["macros"].items()}
    sources = {name: source["columns"] for name, source in manifest["sources"].items()}
    release = importlib.metadata.version("dagster-dbt")
    known = json.dumps([release, models, macros, sources], sort_keys=True, default=str)
    return hashlib.sha256(known.encode()).hexdigest()


def _read(path: Path, state: str) -> dict[str, Columns]:
    if not path.is_file():
        return {}
    held = json.loads(path.read_bytes())
    if held["state"] != state:
        return {}
    return {
        model: {name: dg.deserialize_value(value) for name, value in columns.items()}
        for model, columns in held["columns"].items()
    }


def _write(path: Path, state: str, columns: Mapping[str, Columns]) -> None:
    held = {
        model: {name: dg.serialize_value(value) for name, value in values.items()}
        for model, values in columns.items()
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"state": state, "columns": held}))
    temporary.replace(path)
