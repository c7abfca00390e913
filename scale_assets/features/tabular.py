"""Tabular datasets: label rows with the features that were known at their time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.features.asof import connect
from scale_assets.features.dataset import (
    Check,
    NotEnoughHistory,
    split_columns,
    write_manifest,
    write_rows,
)
from scale_assets.features.leakage import (
    every_label_once,
    no_feature_tells_the_label,
    no_forbidden_columns,
    nothing_from_the_future,
)
from scale_assets.features.reader import quoted
from scale_assets.features.repo import ViewDeclaration
from scale_assets.lake import Lake

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True, kw_only=True)
class TabularSet:
    """What a tabular dataset is made of; see ``components.TrainingSet`` for each field."""

    name: str
    table: str
    entity: str
    time: str
    labels: Sequence[str]
    carry: Sequence[str]
    where: str | None
    split_column: str
    splits: Mapping[str, Sequence[str]]
    feature_service: str
    evaluation: Mapping[str, Any]
    forbidden: Sequence[str]
    max_single_feature_auc: float


@dataclass(frozen=True)
class Built:
    """A written dataset: its size, the snapshots it came from, and what the checks say."""

    num_rows: Mapping[str, int]
    columns: Mapping[str, str]
    delta_versions: Mapping[str, int]
    checks: Sequence[Check]


def build_tabular(
    declared: TabularSet,
    *,
    lake: Lake,
    store: "FeatureStore",
    views: Sequence[ViewDeclaration],
    folder: Path,
) -> Built:
    """Write the splits and dataset.json into ``folder``. Equal snapshots give equal bytes."""
    columns = [column for view in views for column in view.columns]
    numeric, categorical = split_columns(columns)
    labels_version = lake.version(declared.table)
    query = _label_query(declared, lake.duckdb_relation_sql(declared.table, version=labels_version))
    with connect() as connection:
        labels = connection.sql(query).to_arrow_table()
    job = store.get_historical_features(
        entity_df=query,
        features=store.get_feature_service(declared.feature_service),
        full_feature_names=True,  # label columns may share a feature's name
    )
    joined = job.to_arrow_with_times()
    rows = _dataset_rows(declared, joined, views)
    checks = [
        nothing_from_the_future(joined, time=declared.time, views=[view.name for view in views]),
        every_label_once(labels, joined, keys=[declared.entity, declared.time]),
        _carried_columns_agree(declared, joined, views),
        no_forbidden_columns(rows.column_names, forbidden=declared.forbidden),
    ]
    num_rows, train = _write_splits(declared, rows, joined[declared.split_column], folder)
    checks.append(
        no_feature_tells_the_label(
            train,
            labels=declared.labels,
            numeric=numeric,
            categorical=categorical,
            max_auc=declared.max_single_feature_auc,
        )
    )
    versions = {declared.table: labels_version, **job.delta_versions}
    write_manifest(folder, _manifest(declared, numeric, categorical, versions), lake=lake)
    kinds = {field.name: str(field.type) for field in rows.schema}
    return Built(num_rows, kinds, versions, checks)


def _label_query(declared: TabularSet, relation: str) -> str:
    """Label rows in the dataset's order: entity, then time."""
    wanted = [
        declared.entity,
        declared.time,
        *declared.carry,
        *declared.labels,
        declared.split_column,
    ]
    chosen = [value for values in declared.splits.values() for value in values]
    values = ", ".join("'" + value.replace("'", "''") + "'" for value in chosen)
    where = f" and ({declared.where})" if declared.where else ""
    return (
        f"select {', '.join(quoted(name) for name in dict.fromkeys(wanted))} from ({relation})"
        f" where {quoted(declared.split_column)}::varchar in ({values}){where}"
        f" order by {quoted(declared.entity)}, {quoted(declared.time)}"
    )


def _dataset_rows(
    declared: TabularSet, joined: pa.Table, views: Sequence[ViewDeclaration]
) -> pa.Table:
    """Columns under their short names; a carried column stands for the feature of its name."""
    own = dict.fromkeys([declared.entity, declared.time, *declared.carry, *declared.labels])
    columns = {name: joined[name] for name in own}
    for view in views:
        for name, kind in view.columns:
            column = joined[f"{view.name}__{name}"]
            columns.setdefault(name, column.cast(pa.int8()) if kind == "bool" else column)
    return pa.table(columns)


def _carried_columns_agree(
    declared: TabularSet, joined: pa.Table, views: Sequence[ViewDeclaration]
) -> Check:
    """A label column that is also a feature has the feature's value, so training equals serving."""
    num_different = {
        name: pc.sum(pc.not_equal(joined[name], joined[f"{view.name}__{name}"])).as_py() or 0
        for view in views
        for name, _ in view.columns
        if name in declared.carry
    }
    return Check(
        "carried_columns_agree",
        passed=not any(num_different.values()),
        found={"num_different": num_different},
    )


def _write_splits(
    declared: TabularSet, rows: pa.Table, split_column: pa.ChunkedArray, folder: Path
) -> tuple[dict[str, int], pa.Table]:
    """One file per split; returns row counts and the first split, which training uses."""
    num_rows: dict[str, int] = {}
    first: pa.Table | None = None
    for split, values in declared.splits.items():
        part = rows.filter(pc.is_in(split_column, value_set=pa.array(values, split_column.type)))
        _require_both_classes(part, declared, split)
        write_rows(part, folder / split / "part-0.parquet")
        num_rows[split] = part.num_rows
        first = part if first is None else first
    assert first is not None  # the component asks for at least one split
    return num_rows, first


def _require_both_classes(part: pa.Table, declared: TabularSet, split: str) -> None:
    """Neither training nor scoring is possible on rows that all have one label."""
    for label in declared.labels:
        known = pc.unique(pc.drop_null(part[label]))
        if len(known) < 2:
            raise NotEnoughHistory(
                f"{declared.name}: split {split!r} ({declared.split_column} in "
                f"{list(declared.splits[split])}) has {part.num_rows} rows, and {label} is not yet "
                "both true and false among them; it is made once later events have arrived"
            )


def _manifest(
    declared: TabularSet, numeric: list[str], categorical: list[str], versions: dict[str, int]
) -> dict[str, Any]:
    return {
        "name": declared.name,
        "kind": "tabular",
        "feature_service": declared.feature_service,
        "entity": declared.entity,
        "time": declared.time,
        "labels": list(declared.labels),
        "numeric": numeric,
        "categorical": categorical,
        "splits": {split: [f"{split}/part-0.parquet"] for split in declared.splits},
        "delta_versions": versions,
        "evaluation": dict(declared.evaluation),
    }
