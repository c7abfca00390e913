"""Columns of dbt models in Dagster's metadata: their schema, and where each comes from."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg
from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator

from scale_assets.components.columns import (
    DECLARED_IN,
    LINEAGE,
    SCHEMA,
    UNKNOWN_LINEAGE,
    ColumnUse,
    uses_metadata,
)
from scale_assets.components.dbt_lineage import ModelLineage

Columns = dict[str, Any]  # the metadata values of one model, by name
KeyOf = Callable[[str], dg.AssetKey]  # the asset of a dbt node's unique id


def column_metadata(
    invocation: DbtCliInvocation,
    built: Iterable[dg.Output[Any]],
    lineage: Mapping[str, dg.TableColumnLineage],
) -> dict[str, Columns]:
    """Schema, as the warehouse has it, and lineage by unique id of each model that was built."""
    described = DbtEventIterator(iter(built), invocation).fetch_column_metadata(
        with_column_lineage=False  # known since the project was parsed, and it takes long
    )
    columns = {}
    for event in described:
        name = unique_id(event)
        columns[name] = {SCHEMA: event.metadata[SCHEMA]} if SCHEMA in event.metadata else {}
        if name in lineage:
            columns[name][LINEAGE] = lineage[name]
    return columns


def unique_id(event: Any) -> str:
    return str(event.metadata["unique_id"].value)


def spec_metadata(
    unique_id: str,
    lineage: ModelLineage,
    *,
    manifest: Mapping[str, Any],
    key_of: KeyOf,
    folder: str,
) -> Columns:
    """What a model's asset says of its columns before anything has run.

    Args:
        unique_id: The model's.
        lineage: As derived from its SQL.
        manifest: Of its project.
        key_of: The asset of a parent.
        folder: Of the dbt project, from the project's root.
    """
    node = manifest["nodes"][unique_id]
    sql = f"{folder}/{node['original_file_path']}"
    reads = [ColumnUse(key_of(parent), column, sql) for parent, column in lineage.reads]
    names = []
    for parent in node["depends_on"].get("nodes", ()):
        source = manifest["sources"].get(parent)
        if source:  # its yml repeats what another asset's columns are
            yml = f"{folder}/{source['original_file_path']}"
            names += [ColumnUse(key_of(parent), column, yml) for column in source["columns"]]
    if node["config"].get("contract", {}).get("enforced"):
        yml = f"{folder}/{str(node['patch_path']).partition('://')[2]}"
        names += [ColumnUse(key_of(unique_id), column, yml) for column in node["columns"]]
    known: Columns = {DECLARED_IN: sql, **uses_metadata(reads=reads, names=names)}
    if lineage.problem:
        return {**known, UNKNOWN_LINEAGE: lineage.problem}
    return {**known, LINEAGE: column_lineage(lineage, key_of)}


def column_lineage(lineage: ModelLineage, key_of: KeyOf) -> dg.TableColumnLineage:
    """A model's lineage in Dagster's words."""
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(key_of(parent), column) for parent, column in made_from]
            for name, made_from in lineage.columns.items()
        }
    )
