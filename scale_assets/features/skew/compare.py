"""Served vectors against the lake, as of when each was served: a verdict on every value."""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scale_assets.features.asof import connect
from scale_assets.features.codec import from_micros
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.skew.as_of import layout_id, store_as_of
from scale_assets.features.skew.columns import (
    VERDICTS,
    Column,
    input_column,
    input_path,
    paths_sql,
    time_column,
    type_path,
    view_path,
    view_text,
)
from scale_assets.features.skew.lines import store_vectors
from scale_assets.features.skew.report import Example, FeatureSkew, SkewReport
from scale_assets.features.stores.sqlite import quoted
from scale_assets.lake import Lake

if TYPE_CHECKING:
    import duckdb

NUM_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Whose vectors are compared, and what of the views each input of the graph must be."""

    name: str
    views: Sequence[ViewDeclaration]  # whole, as the online store has them
    inputs: Mapping[str, tuple[str, str]]  # name: (view, feature)


def compare_served(lake: Lake, folder: Path, served: ServedModel, *, since: datetime) -> SkewReport:
    """Compare what was logged since then; one join per view."""
    spill = tempfile.mkdtemp(prefix="skew-")
    try:
        with connect(temp_folder=spill) as connection:
            return _Comparison(connection, lake, served).run(folder, since)
    finally:
        shutil.rmtree(spill, ignore_errors=True)


class _Comparison:
    def __init__(
        self, connection: "duckdb.DuckDBPyConnection", lake: Lake, served: ServedModel
    ) -> None:
        self._connection = connection
        self._lake = lake
        self._served = served
        self._other_layouts: dict[str, int] = {}
        self._not_told: dict[str, int] = {}

    def run(self, folder: Path, since: datetime) -> SkewReport:
        num_torn = store_vectors(self._connection, folder, model=self._served.name, since=since)
        count, first, last = self._one(
            "select count(*), min(served_at), max(served_at) from vectors"
        )
        if not count:
            return SkewReport(num_torn_lines=num_torn)
        logged = self._logged_inputs()
        features = [
            skew for view in self._served.views for skew in self._compare_view(view, logged)
        ]
        versions = "select version, count(*) from vectors group by all order by all"
        return SkewReport(
            num_vectors=count,
            first_served=from_micros(first),
            last_served=from_micros(last),
            versions=dict(self._connection.execute(versions).fetchall()),
            features=features,
            not_compared={
                name: number
                for (_, name), number in logged.items()
                if name not in self._served.inputs
            },
            other_layouts=self._other_layouts,
            not_told=self._not_told,
            num_torn_lines=num_torn,
        )

    def _logged_inputs(self) -> dict[tuple[str, str], int]:
        """Type and name of every input, and in how many vectors it is."""
        kinds = self._connection.execute(
            "select distinct unnest(json_keys(line, '$.values')) from vectors order by all"
        ).fetchall()
        found: dict[tuple[str, str], int] = {}
        for (kind,) in kinds:
            names = self._connection.execute(
                "select name, count(*) from (select unnest(json_keys(line, $path)) as name"
                " from vectors) group by all order by all",
                {"path": type_path(kind)},
            ).fetchall()
            found |= {(kind, name): number for name, number in names}
        return found

    def _compare_view(
        self, view: ViewDeclaration, logged: Mapping[tuple[str, str], int]
    ) -> Iterator[FeatureSkew]:
        """Verdicts on each feature that was served, and on the time of the rows."""
        columns, paths = self._columns(view, logged)
        wanted = {column.feature for column in columns}
        kept = tuple(column for column in view.columns if column[0] in wanted)
        key, state, schema = (view_text(view.name, each) for each in ("key", "state", "schema"))
        time = f"make_timestamptz(({view_text(view.name, 'as_of_us')})::bigint)"
        store_as_of(
            self._connection,
            self._lake,
            replace(view, columns=kept),
            f"select {key} as key, {time} as time, bool_or({state} <> 'absent') as was_read"
            f" from vectors where {key} is not null group by all",
        )
        self._connection.execute(
            f"create or replace temp table served as select vector, place, version, {key} as key,"
            f" {time} as time, {schema} as schema, json_extract(line, {paths_sql(paths)}) as used"
            f" from vectors where {key} is not null"
        )
        self._note_what_is_apart(view)
        yield from self._verdicts(view, columns)

    def _columns(
        self, view: ViewDeclaration, logged: Mapping[tuple[str, str], int]
    ) -> tuple[list[Column], list[str]]:
        """The values to compare, and the paths of a line that they are read from, in order."""
        kinds = dict(view.columns)
        columns, paths = [], []
        for dtype, name in logged:
            owner, feature = self._served.inputs.get(name, ("", ""))
            if owner == view.name:
                paths.append(input_path(dtype, name))
                columns.append(
                    input_column(
                        feature,
                        kinds[feature],
                        dtype,
                        served=f"used[{len(paths)}]",
                        lake=f"lake.{quoted(f'f_{feature}')}",
                    )
                )
        paths += [view_path(view.name, "state"), view_path(view.name, "feature_time_us")]
        times = time_column(state=f"used[{len(paths) - 1}]", time=f"used[{len(paths)}]")
        return [times, *columns], paths

    def _verdicts(self, view: ViewDeclaration, columns: Sequence[Column]) -> Iterator[FeatureSkew]:
        self._connection.execute(
            "create or replace temp table verdicts as select vector,"
            + ", ".join(
                f" case when is_told then {column.verdict} end as v{at}"
                for at, column in enumerate(columns)
            )
            + f" from {BOTH}"
        )
        counts = ", ".join(
            f"count(*) filter (v{at} = '{verdict}')"
            for at, _ in enumerate(columns)
            for verdict in VERDICTS
        )
        found = self._one(f"select {counts} from verdicts")
        merged: dict[str, list[int]] = defaultdict(lambda: [0] * len(VERDICTS))
        examples: dict[str, list[Example]] = defaultdict(list)
        for at, column in enumerate(columns):  # of several types, where releases differ
            numbers = found[at * len(VERDICTS) : (at + 1) * len(VERDICTS)]
            before = merged[column.feature]
            merged[column.feature] = [a + b for a, b in zip(before, numbers, strict=True)]
            if any(numbers[1:]):
                examples[column.feature] += self._examples(at, column)
        for feature, totals in merged.items():
            yield FeatureSkew(
                name=f"{view.name}.{feature}",
                **dict(zip(VERDICTS, totals, strict=True)),
                examples=tuple(examples[feature][:NUM_EXAMPLES]),
            )

    def _examples(self, at: int, column: Column) -> Iterator[Example]:
        rows = self._connection.execute(
            f"select place, version, v{at}, {column.shown(column.served)},"
            f" {column.shown(column.lake)} from {BOTH} join verdicts using (vector)"
            f" where v{at} <> 'equal' order by vector limit {NUM_EXAMPLES}"
        ).fetchall()
        for place, version, verdict, served, lake in rows:
            yield Example(place=place, version=version, verdict=verdict, served=served, lake=lake)

    def _note_what_is_apart(self, view: ViewDeclaration) -> None:
        not_told, other = self._one(
            "select count(*) filter (not is_told),"
            f" count(*) filter (schema <> '{layout_id(view)}') from {BOTH}"
        )
        if not_told:
            self._not_told[view.name] = not_told
        if other:
            self._other_layouts[view.name] = other

    def _one(self, query: str) -> tuple:  # type: ignore[type-arg]
        row: tuple = self._connection.execute(query).fetchall()[0]  # type: ignore[type-arg]
        return row


BOTH = "served join as_of as lake using (key, time)"
