"""Where each column of a dbt model comes from, derived from its compiled SQL by sqlglot.

Derived once per parse of the project and kept beside its manifest: the definitions show it before
anything has run, and SQL that reads a column which is no longer there is found without a run.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from sqlglot import MappingSchema, exp
    from sqlglot.optimizer.scope import Scope

FILE = "lineage.json"
Column = tuple[str, str]  # unique id of the dbt node, name
Tables = Mapping[tuple[str, str], str]  # (schema, table), as sqlglot spells them: unique id


class ModelLineage(msgspec.Struct, frozen=True):
    """A model's columns, each with the columns of its parents that it is made from."""

    columns: dict[str, list[Column]] = {}
    reads: list[Column] = []  # what its SQL reads besides: to join, to filter, to group
    problem: str = ""  # why nothing is known


def prepared_lineage(target: Path) -> dict[str, ModelLineage]:
    """The lineage beside a manifest, by unique id of the model."""
    return msgspec.json.decode((target / FILE).read_bytes(), type=dict[str, ModelLineage])


def write_lineage(target: Path) -> None:
    """Derive the lineage of a manifest's models and put it beside the manifest."""
    manifest = msgspec.json.decode((target / "manifest.json").read_bytes())
    temporary = target / f".{FILE}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(derive(manifest)))
    temporary.replace(target / FILE)


def derive(manifest: Mapping[str, Any]) -> dict[str, ModelLineage]:
    """Lineage of every model; what sqlglot cannot read is said of that model alone."""
    from sqlglot.errors import SqlglotError

    known = {
        unique_id: list(source["columns"]) for unique_id, source in manifest["sources"].items()
    }
    found: dict[str, ModelLineage] = {}
    for unique_id in _parents_first(manifest):
        node = manifest["nodes"][unique_id]
        if node["resource_type"] != "model":
            known[unique_id] = list(node["columns"])
            continue
        try:
            found[unique_id] = _derive_model(node, manifest, known)
        except SqlglotError as error:
            found[unique_id] = ModelLineage(problem=f"sqlglot: {str(error).splitlines()[0]}")
        known[unique_id] = list(found[unique_id].columns) or list(node["columns"])
    return found


def _parents_first(manifest: Mapping[str, Any]) -> list[str]:
    order: dict[str, None] = {}

    def visit(unique_id: str) -> None:
        if unique_id in order or unique_id not in manifest["nodes"]:
            return
        for parent in manifest["nodes"][unique_id]["depends_on"].get("nodes", ()):
            visit(parent)
        order[unique_id] = None

    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] in {"model", "seed", "snapshot"}:
            visit(unique_id)
    return list(order)


def _derive_model(
    node: Mapping[str, Any], manifest: Mapping[str, Any], known: Mapping[str, list[str]]
) -> ModelLineage:
    from sqlglot import MappingSchema, exp, parse_one
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    if not node.get("compiled_code"):
        return ModelLineage(problem="dbt did not compile it to SQL; see `dbt compile`")
    dialect = manifest["metadata"]["adapter_type"]
    schema, tables = MappingSchema(dialect=dialect), {}
    for parent in node["depends_on"]["nodes"]:
        spec = manifest["sources"].get(parent) or manifest["nodes"][parent]
        name = (spec["schema"], spec.get("identifier") or spec["alias"])
        tables[_folded(*name)] = parent
        if known.get(parent):
            table = exp.table_(name[1], db=name[0], catalog=spec["database"])
            schema.add_table(table, dict.fromkeys(known[parent], "unknown"))
    query = qualify(
        parse_one(node["compiled_code"], dialect=dialect),
        schema=schema,
        dialect=dialect,
        # A column that is not there is told by who reads it.
        validate_qualify_columns=False,
        allow_partial_qualification=True,
    )
    scope = build_scope(query)
    if scope is None or not isinstance(query, exp.Query):
        return ModelLineage(problem="its SQL is no query")
    columns = {
        name: sorted(_made_from(name, query, scope, schema, tables, dialect))
        for name in query.named_selects
    }
    direct = {column for made_from in columns.values() for column in made_from}
    return ModelLineage(columns, sorted(set(_read(query, tables)) - direct))


def _made_from(
    name: str,
    query: "exp.Expression",
    scope: "Scope",
    schema: "MappingSchema",
    tables: Tables,
    dialect: str,
) -> set[Column]:
    """The parents' columns that one output column is made from, through all CTEs."""
    from sqlglot import exp
    from sqlglot.lineage import lineage

    found = set()
    root = lineage(name, query, schema=schema, dialect=dialect, scope=scope, copy=False)
    for node in root.walk():
        table = None if node.downstream else node.expression.find(exp.Table)
        parent = table and tables.get(_folded(table.db, table.name))
        if parent:
            found.add((parent, exp.to_column(node.name).name))
    return found


def _read(query: "exp.Expression", tables: Tables) -> Iterator[Column]:
    """Every column that any part of the query reads from a parent, there or not."""
    from sqlglot.optimizer.scope import traverse_scope

    for scope in traverse_scope(query):
        sources = _selected(scope)
        only = next(iter(sources.values())) if len(sources) == 1 else None
        for column in scope.columns:
            source = sources.get(column.table) if column.table else only
            table = None if _is_own(column, scope) else _table_of(source, column.name)
            parent = table and tables.get(_folded(table.db, table.name))
            if parent:
                yield parent, column.name


def _is_own(column: "exp.Column", scope: "Scope") -> bool:
    """Whether a name without a table is no table's: an output's alias, a list's variable, a star."""
    from sqlglot import exp

    if column.table:
        return False
    if column.name in scope.expression.named_selects:
        return column.find_ancestor(exp.Group, exp.Having, exp.Order, exp.Qualify) is not None
    return isinstance(column.this, exp.Star) or column.find_ancestor(exp.Comprehension) is not None


def _table_of(source: Any, column: str) -> "exp.Table | None":
    """The table that a name can only come from: of a CTE that lacks it, the one table below."""
    from sqlglot import exp

    while source is not None and not isinstance(source, exp.Table):
        below = list(_selected(source).values())
        if len(below) != 1 or column in source.expression.named_selects:
            return None
        source = below[0]
    return source


def _selected(scope: "Scope") -> dict[str, Any]:
    """What a part of the query selects from, by alias: tables, and other parts."""
    return {alias: source for alias, (_, source) in scope.selected_sources.items()}


def _folded(schema: str, table: str) -> tuple[str, str]:
    return schema.lower(), table.lower()
