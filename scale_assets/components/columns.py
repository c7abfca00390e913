"""Which columns an asset has and which it reads, said in its metadata; the check that they meet.

Dagster's own `dagster/column_lineage` says what a column is made from. What an asset needs besides,
such as a column that it filters by, stands in `scale/column_reads`; where a file only repeats a
name, as a dbt source's yml and a feature service do, in `scale/column_names`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import dagster as dg

from scale_assets.errors import ScaleError

SCHEMA = "dagster/column_schema"
LINEAGE = "dagster/column_lineage"
REFERENCES = "dagster/code_references"
READS = "scale/column_reads"
NAMES = "scale/column_names"
DECLARED_IN = "scale/declared_in"  # the file, where it is not the YAML of the component
UNKNOWN_LINEAGE = "scale/unknown_lineage"  # why there is none
PASSES_ON = "scale/passes_on"  # the asset whose columns these are too
FEATURE_SERVICE = "scale/feature_service"
ROUTE = "scale/route"  # where the prediction server answers from it


class ColumnsMissing(ScaleError):
    """Columns that are read by name and that their table does not have."""


@dataclass(frozen=True)
class ColumnUse:
    """A column of an asset, and the file that names it; none where the reader's YAML does."""

    asset: dg.AssetKey
    column: str
    where: str


def uses_metadata(
    *, reads: Iterable[ColumnUse] = (), names: Iterable[ColumnUse] = ()
) -> dict[str, dg.MetadataValue]:
    """Says of an asset what it reads besides what its columns are made from, and what it names."""
    return {
        key: dg.MetadataValue.json(
            [[use.asset.to_user_string(), use.column, use.where] for use in uses]
        )
        for key, uses in ((READS, list(reads)), (NAMES, list(names)))
        if uses
    }


def column_uses(metadata: Mapping[str, Any], key: str) -> list[ColumnUse]:
    """What ``uses_metadata`` said under READS or NAMES."""
    said = metadata.get(key)
    found: Any = said.value if isinstance(said, dg.JsonMetadataValue) else []
    return [
        ColumnUse(dg.AssetKey.from_user_string(asset), column, where)
        for asset, column, where in found
    ]


def deps_by_column(metadata: Mapping[str, Any]) -> dict[str, list[dg.TableColumnDep]] | None:
    """The lineage of an asset's columns; None where it says none."""
    said = metadata.get(LINEAGE)
    if said is None:
        return None
    lineage = said if isinstance(said, dg.TableColumnLineage) else said.column_lineage
    return {name: list(deps) for name, deps in lineage.deps_by_column.items()}


def declared_in(metadata: Mapping[str, Any]) -> str:
    """The file in which an asset is declared."""
    said = metadata.get(DECLARED_IN)
    if said is not None:
        return str(getattr(said, "value", said))
    references = metadata.get(REFERENCES)
    found = references.code_references[0] if references else None
    return str(getattr(found, "file_path", "a Python file"))


def schema_columns(metadata: Mapping[str, Any]) -> list[str] | None:
    """Names of the columns in an asset's schema; None where it says none."""
    said = metadata.get(SCHEMA)
    if said is None:
        return None
    schema = said if isinstance(said, dg.TableSchema) else said.schema
    return [column.name for column in schema.columns]


def all_specs(definitions: dg.Definitions) -> Iterator[dg.AssetSpec]:
    """Every declared asset, without building the graph."""
    for asset in definitions.assets or ():
        if isinstance(asset, dg.AssetsDefinition):
            yield from asset.specs
        elif isinstance(asset, dg.AssetSpec):
            yield asset


def check_columns(specs: Iterable[dg.AssetSpec], *, root: Path) -> None:
    """Refuse definitions in which anything names a column that its table does not have.

    Raises:
        ColumnsMissing: With each column, and every file that names it.
    """
    specs = list(specs)
    known = {spec.key: columns for spec in specs if (columns := _known(spec.metadata))}
    missing: dict[tuple[dg.AssetKey, str], set[str]] = defaultdict(set)
    for spec in specs:
        for use in _uses(spec):
            if use.asset in known and use.column not in known[use.asset]:
                file = Path(use.where)
                shown = file.relative_to(root) if file.is_relative_to(root) else file
                missing[use.asset, use.column].add(f"  {shown}: {spec.key.to_user_string()}")
    if missing:
        raise ColumnsMissing(
            "\n".join(
                line
                for (asset, column), consumers in sorted(missing.items())
                for line in (_sentence(asset, column, known[asset]), *sorted(consumers))
            )
        )


def _known(metadata: Mapping[str, Any]) -> set[str] | None:
    """All columns of an asset, where they can be told: SQL before yml, which may leave some out."""
    lineage = deps_by_column(metadata)
    if lineage is not None:
        return set(lineage)
    if UNKNOWN_LINEAGE in metadata:
        return None
    return set(schema_columns(metadata) or ()) or None


def _uses(spec: dg.AssetSpec) -> Iterator[ColumnUse]:
    where = declared_in(spec.metadata)
    for use in [*column_uses(spec.metadata, READS), *column_uses(spec.metadata, NAMES)]:
        yield use if use.where else replace(use, where=where)
    for deps in (deps_by_column(spec.metadata) or {}).values():
        for dep in deps:
            yield ColumnUse(dep.asset_key, dep.column_name, where)


def _sentence(asset: dg.AssetKey, column: str, known: set[str]) -> str:
    near = get_close_matches(column, sorted(known), n=2)
    meant = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(known))}."
    return f"{asset.to_user_string()} has no column {column!r}; {meant} It is named by"
