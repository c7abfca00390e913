"""Runs what is due of the asset graph in this process: the engine behind `scale demo`.

The graph is cut into waves of assets that share a partitioning. A wave of daily assets runs once
per range of touched dates, a wave of unpartitioned assets once, and what has seen its inputs
already is left alone.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph  # no public name yet

from scale_assets.errors import ScaleError
from scale_assets.partitions import contiguous_ranges, pending_dates

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
RUN_TAG = "scale/pipeline"
INPUT_VERSION_TAG = "dagster/input_data_version/"


class PipelineFailed(ScaleError):
    """An asset or a blocking check failed; the message names the first ones."""


@dataclass(frozen=True)
class StepDone:
    """One finished asset computation."""

    name: str
    seconds: float
    partitions: str


@dataclass
class PipelineRun:
    """What one call of `run_due` did."""

    steps: list[StepDone] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class Wave:
    """Assets of one partitioning that one run can hold."""

    keys: frozenset[dg.AssetKey]
    partitions_def: dg.PartitionsDefinition | None


Listener = Callable[[str, str, float | None], None]
"""Called with (step name, "start" | "done" | "failed", seconds when done)."""


def run_due(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    roots: dg.AssetSelection,
    listener: Listener,
) -> PipelineRun:
    """Run ``roots`` (they look for new input themselves), then whatever they made due.

    Raises:
        PipelineFailed: A step or a blocking check failed; what it feeds was not run.
    """
    graph = definitions.resolve_asset_graph()
    report = PipelineRun()
    started = time.monotonic()
    root_keys = roots.resolve(graph)
    _execute(definitions, instance, report, listener, keys=root_keys)
    for wave in waves(graph, without=root_keys):
        if wave.partitions_def is None:
            due = _with_descendants(graph, wave, _due_assets(instance, graph, wave))
            if due:
                _execute(definitions, instance, report, listener, keys=due)
            continue
        due_dates = _due_dates(instance, graph, wave)
        chosen = _with_descendants(graph, wave, set(due_dates))
        for dates in contiguous_ranges(itertools.chain.from_iterable(due_dates.values())):
            _execute(definitions, instance, report, listener, keys=chosen, dates=dates)
    report.wall_seconds = time.monotonic() - started
    return report


def waves(graph: AssetGraph, *, without: Iterable[dg.AssetKey] = ()) -> list[Wave]:
    """Cut the executable assets into waves, in an order that respects every dependency.

    Each asset goes into the last wave that can hold it, which makes the fewest runs: what is
    computed by one tool (dbt, a Spark session) starts it once.
    """
    order = list(graph.toposorted_asset_keys)
    level = _earliest(graph, order)
    for key in reversed(order):
        bounds = [
            level[child] - int(graph.get(child).partitions_def != graph.get(key).partitions_def)
            for each in _together(graph, key)
            for child in graph.get(each).child_keys
        ]
        same = [at for other, at in level.items() if _same_partitions(graph, other, key)]
        latest = min([*bounds, max(same)])
        level.update(dict.fromkeys(_together(graph, key), latest))

    keys = set(graph.materializable_asset_keys) - set(without)
    grouped: dict[tuple[int, str], set[dg.AssetKey]] = {}
    for key in (each for each in order if each in keys):
        grouped.setdefault((level[key], repr(graph.get(key).partitions_def)), set()).add(key)
    return [
        Wave(frozenset(members), graph.get(next(iter(members))).partitions_def)
        for _, members in sorted(grouped.items(), key=lambda item: item[0])
    ]


def _earliest(graph: AssetGraph, order: list[dg.AssetKey]) -> dict[dg.AssetKey, int]:
    """The first wave that each asset could run in; a change of partitioning starts a new one."""
    level: dict[dg.AssetKey, int] = {}
    for key in order:
        first = max(
            (
                level[parent] + int(not _same_partitions(graph, parent, key))
                for each in _together(graph, key)
                for parent in graph.get(each).parent_keys
                if parent in level  # not yet: it is computed together with this one
            ),
            default=0,
        )
        level.update(dict.fromkeys(_together(graph, key), first))
    return level


def _together(graph: AssetGraph, key: dg.AssetKey) -> list[dg.AssetKey]:
    """The assets that are computed by one step which cannot do fewer."""
    found = graph.get_execution_set_asset_and_check_keys(key)
    return [each for each in found if isinstance(each, dg.AssetKey)]


def _same_partitions(graph: AssetGraph, one: dg.AssetKey, other: dg.AssetKey) -> bool:
    return graph.get(one).partitions_def == graph.get(other).partitions_def


def _due_dates(
    instance: dg.DagsterInstance, graph: AssetGraph, wave: Wave
) -> dict[dg.AssetKey, set[str]]:
    """By asset, the partitions whose input was logged after the asset saw it."""
    calendar = wave.partitions_def
    assert calendar is not None
    due: dict[dg.AssetKey, set[str]] = {}
    for key in wave.keys:
        upstream = [
            each for each in graph.get(key).parent_keys if _same_partitions(graph, each, key)
        ]
        dates = pending_dates(instance, upstream=upstream, downstream=key, calendar=calendar)
        if dates:
            due[key] = set(dates)
    return due


def _due_assets(instance: dg.DagsterInstance, graph: AssetGraph, wave: Wave) -> set[dg.AssetKey]:
    return {key for key in wave.keys if _is_due(instance, graph, key)}


def _is_due(instance: dg.DagsterInstance, graph: AssetGraph, key: dg.AssetKey) -> bool:
    """Never made, or made from another version of an input than the present one."""
    own = _latest(instance, key)
    if own is None:
        return True
    tags = own.asset_materialization.tags if own.asset_materialization else None
    for parent in graph.get(key).parent_keys:
        upstream = _latest(instance, parent)
        if upstream is None or upstream.asset_materialization is None:
            continue
        version = (upstream.asset_materialization.tags or {}).get("dagster/data_version")
        seen = (tags or {}).get(INPUT_VERSION_TAG + parent.to_user_string())
        newer = upstream.storage_id > own.storage_id
        if newer if graph.get(parent).is_partitioned else newer and version != seen:
            return True
    return False


def _latest(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.EventLogRecord | None:
    records = instance.fetch_materializations(key, limit=1).records
    return records[0] if records else None


def _with_descendants(graph: AssetGraph, wave: Wave, due: set[dg.AssetKey]) -> set[dg.AssetKey]:
    """What is due, what it feeds inside the wave, and what is computed together with either."""
    chosen: set[dg.AssetKey] = set()
    for key in graph.toposorted_asset_keys:
        if key in wave.keys and (key in due or graph.get(key).parent_keys & chosen):
            chosen.update(_together(graph, key))
    return chosen


def _execute(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    report: PipelineRun,
    listener: Listener,
    *,
    keys: Iterable[dg.AssetKey],
    dates: tuple[str, str] | None = None,
) -> None:
    run_id = str(uuid.uuid4())
    tags = {RUN_TAG: "1"}
    if dates:
        tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"] = (
            dates
        )
    with _listening(instance, run_id, report, listener, label=" .. ".join(dates or ())):
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            run_config=QUIET,
            instance=instance,
            asset_selection=sorted(keys),
            run_id=run_id,
            tags=tags,
            raise_on_error=False,
        )
    report.run_ids.append(run_id)
    if not result.success:
        raise PipelineFailed("\n".join(failures(result)))


@contextmanager
def _listening(
    instance: dg.DagsterInstance,
    run_id: str,
    report: PipelineRun,
    listener: Listener,
    *,
    label: str,
) -> Iterator[None]:
    """Turn the run's events into calls of ``listener`` and rows of ``report``."""
    started: dict[str, float] = {}

    def on_event(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None or event.step_key is None:
            return
        name = event.step_key.replace("__", "/")
        if event.event_type == dg.DagsterEventType.STEP_START:
            started[name] = entry.timestamp
            listener(name, "start", None)
        elif event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            seconds = entry.timestamp - started.get(name, entry.timestamp)
            report.steps.append(StepDone(name, seconds, label))
            listener(name, "done", seconds)
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            listener(name, "failed", None)

    instance.add_event_listener(run_id, on_event)
    yield


def failures(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    """One line per failed step or blocking check, the innermost cause first."""
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            yield f"{event.step_key}: {error.message.strip() if error else 'failed'}"
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            yield f"check {check.check_name} of {check.asset_key.to_user_string()} failed"
