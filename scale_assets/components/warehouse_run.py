"""One dbt invocation under Dagster: source views before it, publication to the lake after it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtProject
from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from scale_assets.components.dbt_columns import column_metadata, unique_id
from scale_assets.components.dbt_runs import open_dbt, own_target
from scale_assets.lake import Lake
from scale_assets.lake.publish_marts import Published, publish_dates, publish_mart
from scale_assets.lake.source_views import SourceView, connect, create_source_views

Event = dg.Output[Any] | dg.AssetMaterialization | dg.AssetCheckResult | dg.AssetObservation


@dataclass(frozen=True, kw_only=True)
class WarehouseRun:
    """What one run builds, from which lake, in which DuckDB file."""

    project: DbtProject
    manifest: Mapping[str, Any]
    lineage: Mapping[str, dg.TableColumnLineage]  # by unique id of the model
    source_schema: str
    published_tag: str
    daily_tag: str
    lake: Lake
    path: Path
    dates: tuple[date, date] | None  # both included; None builds everything

    def events(self, context: dg.AssetExecutionContext) -> Iterator[Event]:
        """Build, test, publish what passed, and describe it; then fail if dbt did.

        dbt has left the file before anything here opens it: DuckDB lets one writer in at a time.
        """
        with closing(connect(self.path, read_only=False)) as connection:
            versions = create_source_views(
                self.lake,
                connection,
                self.source_views(),
                schema=self.source_schema,
                dates=self.dates,
            )
        invocation = open_dbt(self.project).cli(
            ["build", "--exclude-resource-type", "unit_test"],
            context=context.op_execution_context,  # dagster-dbt reads what the other one deprecates
            target_path=own_target(self.project, context.op_execution_context.op.name),
        )
        events, error = _exhaust(invocation)
        published = self._publish(events, {f"source/{k}": v for k, v in versions.items()})
        yield from self._described(context, invocation, events, published)
        if error is not None:
            raise error

    def source_views(self) -> list[SourceView]:
        """The lake's tables that this run reads; a source's asset key is the table's name.

        Only those, so that a daily run does not wait for tables that other models read.
        """
        views = []
        for source_id in sorted(self._read_sources()):
            source = self.manifest["sources"][source_id]
            if source["schema"] != self.source_schema:
                continue
            meta = source["config"]["meta"]
            key = meta.get("dagster", {}).get("asset_key", [source["name"]])
            views.append(
                SourceView(
                    table="/".join(key),
                    name=source["identifier"],
                    date_column=meta.get("date_column"),
                )
            )
        return views

    def _read_sources(self) -> set[str]:
        """Sources upstream of the models that go by date, or of all others."""
        nodes = self.manifest["nodes"]
        ahead = [
            unique_id
            for unique_id, node in nodes.items()
            if (self.daily_tag in node["tags"]) == (self.dates is not None)
        ]
        seen: set[str] = set()
        while ahead:
            unique_id = ahead.pop()
            if unique_id not in seen:
                seen.add(unique_id)
                ahead += nodes.get(unique_id, {}).get("depends_on", {}).get("nodes", [])
        return {each for each in seen if each in self.manifest["sources"]}

    def _publish(
        self, events: Sequence[Event], metadata: Mapping[str, Any]
    ) -> dict[str, Published]:
        """Publish the marts that were built and failed no test, by unique id of the model."""
        failed = {
            event.asset_key
            for event in events
            if isinstance(event, dg.AssetCheckResult)
            and not event.passed
            and event.severity == dg.AssetCheckSeverity.ERROR
        }
        published = {}
        with closing(connect(self.path, read_only=True)) as connection:
            for event in events:
                node = self._node(event)
                if node is None or self.published_tag not in node["tags"]:
                    continue
                if dg.AssetKey(node["name"]) in failed:
                    continue
                partition_by = node["config"]["meta"].get("partition_by")
                published[node["unique_id"]] = (
                    publish_mart(
                        self.lake,
                        connection,
                        relation=node["relation_name"],
                        table=node["name"],
                        metadata=metadata,
                    )
                    if self.dates is None or partition_by is None
                    else publish_dates(
                        self.lake,
                        connection,
                        relation=node["relation_name"],
                        table=node["name"],
                        partition_by=partition_by,
                        dates=self.dates,
                        metadata=metadata,
                    )
                )
        return published

    def _described(
        self,
        context: dg.AssetExecutionContext,
        invocation: DbtCliInvocation,
        events: Sequence[Event],
        published: Mapping[str, Published],
    ) -> Iterator[Event]:
        """The events with row counts, column schema and lineage; marts held back are left out."""
        built = [event for event in events if isinstance(event, dg.Output) and self._node(event)]
        counted = DbtEventIterator(iter(built), invocation).fetch_row_counts()
        columns = column_metadata(invocation, built, self.lineage)
        described = {
            name: event.with_metadata({**event.metadata, **columns[name]})
            for event in counted
            for name in [unique_id(event)]
        }
        for event in events:
            node = self._node(event)
            if node is None:
                yield event
                continue
            output = described[node["unique_id"]]
            if self.published_tag not in node["tags"]:
                yield output
            elif node["unique_id"] in published:
                result = published[node["unique_id"]]
                metadata = {
                    **output.metadata,
                    "delta_version": result.version,
                    "num_rows_published": result.num_rows,
                    "is_new_version": result.is_new,
                }
                if result.rows_by_date is not None and self.dates is not None:
                    key = dg.AssetKey(node["name"])
                    _add_by_date(context, key, metadata, rows_by_date=result.rows_by_date)
                    metadata = {}
                yield dg.Output(
                    output.value,
                    output_name=output.output_name,
                    metadata=metadata,
                    data_version=dg.DataVersion(str(result.version)),
                )
        _release(invocation)

    def _node(self, event: Event) -> Mapping[str, Any] | None:
        """The model that an event says was built."""
        if not isinstance(event, dg.Output):
            return None
        node: Mapping[str, Any] = self.manifest["nodes"][unique_id(event)]
        return node


def _add_by_date(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    metadata: Mapping[str, Any],
    *,
    rows_by_date: Mapping[date, int],
) -> None:
    """Describe the run on its last date; the other dates carry their row count only.

    A run can span hundreds of dates, and each logs an event: lineage on all of them is slow.
    """
    keys = context.partition_keys
    for day in keys:
        num_rows = rows_by_date.get(date.fromisoformat(day), 0)
        context.add_asset_metadata({"dagster/partition_row_count": num_rows}, key, day)
    context.add_asset_metadata(metadata, key, keys[-1])


def _release(invocation: DbtCliInvocation) -> None:
    """Close the file that dagster-dbt read metadata from: the next run opens it for writing."""
    if invocation.adapter is not None:
        invocation.adapter.cleanup_connections()
        invocation.adapter.connections.close_all_connections()


def _exhaust(
    invocation: DbtCliInvocation,
) -> tuple[list[Event], DagsterDbtCliRuntimeError | None]:
    """All events, and the error that dbt ended with."""
    events: list[Event] = []
    try:
        events.extend(invocation.stream())
    except DagsterDbtCliRuntimeError as error:
        return events, error
    return events, None
