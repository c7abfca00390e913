"""Where the columns of a training set come from, and what decides which rows it has."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from scale_assets.components.columns import FEATURE_SERVICE, LINEAGE, ColumnUse, uses_metadata
from scale_assets.components.feature_views import table_key
from scale_assets.features.repo import ViewDeclaration

if TYPE_CHECKING:
    from scale_assets.components.training_set import Sequence as SequenceDeclaration
    from scale_assets.components.training_set import Tabular

HERE = ""  # named by the YAML that declares the training set


def tabular_columns(
    declared: "Tabular", views: Iterable[ViewDeclaration], service: str
) -> dict[str, Any]:
    """Labels come from their table; a feature, from that of its view."""
    labels = table_key(declared.table)
    deps: dict[str, list[dg.TableColumnDep]] = defaultdict(list)
    for name in dict.fromkeys([declared.entity, declared.time, *declared.carry, *declared.labels]):
        deps[name].append(dg.TableColumnDep(labels, name))
    uses = [ColumnUse(labels, declared.split_column, HERE)]
    uses += [ColumnUse(labels, name, HERE) for name in _columns_of(declared.where)]
    for view in views:
        table = table_key(view.source.table)
        uses += [ColumnUse(table, key, HERE) for key in view.join_keys]
        for name, _ in view.columns:
            deps[name].append(dg.TableColumnDep(table, name))
    return _metadata(deps, uses, service)


def sequence_columns(declared: "SequenceDeclaration", service: str) -> dict[str, Any]:
    """Items and days come from the events; the catalogue is a file beside them."""
    events, entities, items = map(table_key, (declared.events, declared.entities, declared.items))
    deps: dict[str, list[dg.TableColumnDep]] = defaultdict(list)
    for name in (declared.entity, *declared.carry):
        deps[name].append(dg.TableColumnDep(entities, name))
    deps[f"{declared.item}s"].append(dg.TableColumnDep(events, declared.item))
    deps["days"] = [
        dg.TableColumnDep(events, declared.date),
        dg.TableColumnDep(entities, declared.day_zero),
    ]
    for name in declared.item_columns:
        deps[name].append(dg.TableColumnDep(items, name))
    uses = [
        ColumnUse(events, declared.order, HERE),
        ColumnUse(items, declared.item, HERE),
        *(ColumnUse(table, name, HERE) for table in (events, entities) for name in declared.join),
    ]
    return _metadata(deps, uses, service)


def _columns_of(condition: str | None) -> list[str]:
    """The columns that a SQL condition names."""
    if condition is None:
        return []
    from sqlglot import exp, parse_one

    return sorted(
        {column.name for column in parse_one(condition, dialect="duckdb").find_all(exp.Column)}
    )


def _metadata(
    deps: Mapping[str, Sequence[dg.TableColumnDep]], uses: Iterable[ColumnUse], service: str
) -> dict[str, Any]:
    return {
        LINEAGE: dg.TableColumnLineage(deps),
        FEATURE_SERVICE: service,
        **uses_metadata(reads=uses),
    }
