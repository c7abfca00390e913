"""What materializing a stream logs, and what it holds back."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from scale_assets.components.event_stream import EventStream
from scale_assets.resources import LakeResource, SettingsResource
from tests.ingest.conftest import CONTRACT, event, lines

INGEST, RAW = dg.AssetKey(["ingest", "views"]), dg.AssetKey(["raw", "views"])
REFUSED = dg.AssetKey(["raw", "views_quarantine"])
ATTRIBUTES = {
    "name": "views",
    "contract": "views.odcs.yaml",
    "transport": {"type": "files", "path": "views"},
    "key": ["event_id"],
    "event_time": "event_time",
    "calendar": {"start": "2013-01-01", "end": "2013-01-31"},
    "max_quarantined_fraction": 0.4,
}


class Project:
    """The stream's definitions over a data folder of its own."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.feeds = folder / "feeds" / "views"
        self.feeds.mkdir(parents=True)
        (folder / "views.odcs.yaml").write_text(CONTRACT.format(version="1.0.0", more=""))
        self.instance = instance
        context = dg.ComponentTree.for_test().load_context
        attributes = ATTRIBUTES | {"contract": str(folder / "views.odcs.yaml")}
        stream = EventStream.from_attributes_dict(attributes=attributes)
        lake = LakeResource(root=str(folder / "lake"))
        self.definitions = dg.Definitions.merge(
            stream.build_defs(context),
            dg.Definitions(resources={"lake": lake, "settings": SettingsResource()}),
        )

    def deliver(self, name: str, *days: int, bad_lines: int = 0) -> None:
        numbered = [event(int(f"{day}{n}"), day, pad=None) for n, day in enumerate(days)]
        for row in numbered:
            del row["pad"]
            row["event_id"] = f"{name}-{row['event_id']}"
        (self.feeds / name).write_bytes(lines(numbered) + b"broken\n" * bad_lines)

    def materialize(self, *, replay_quarantine: bool = False) -> dg.ExecuteInProcessResult:
        config = {"config": {"replay_quarantine": replay_quarantine}}
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[INGEST],
            run_config={"ops": {"ingest__views": config}},
            raise_on_error=False,
        )

    def logged(self, key: dg.AssetKey = RAW) -> list[str]:
        return sorted(day[-2:] for day in self.instance.get_materialized_partitions(key))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(tmp_path, instance)


def newly_logged(result: dg.ExecuteInProcessResult) -> list[str]:
    found = result.get_asset_materialization_events()
    return [e.partition[-2:] for e in found if e.asset_key == RAW and e.partition]


def test_touched_days_gaps_and_late_days_are_logged(project: Project) -> None:
    project.deliver("a.jsonl", 3, 5)
    assert newly_logged(project.materialize()) == ["03", "04", "05"]
    assert newly_logged(project.materialize()) == []
    project.deliver("b.jsonl", 4, 8)
    assert newly_logged(project.materialize()) == ["04", "06", "07", "08"]


def test_a_day_above_the_quarantine_limit_is_held_back_until_it_is_below(project: Project) -> None:
    project.deliver("a.jsonl", 3)
    project.deliver("b.jsonl", 4, bad_lines=3)
    result = project.materialize()
    checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}

    assert checks == {"every_row_is_accounted_for": True, "quarantine_within_limit": False}
    assert project.logged() == ["03"]
    assert project.logged(REFUSED) == ["04"]
    project.deliver("c.jsonl", *[4] * 20)
    project.materialize()
    assert project.logged() == ["03", "04"]


def test_days_committed_by_a_run_that_died_before_logging_are_logged_by_the_next(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deliver("a.jsonl", 3)
    project.materialize()
    project.deliver("b.jsonl", 3, 4)

    def die(point: str) -> None:
        raise RuntimeError(f"killed at {point}")

    with monkeypatch.context() as patch:
        patch.setattr("scale_assets.components.stream_run.fault_point", die)
        assert not project.materialize().success
    assert project.logged() == ["03"]

    assert newly_logged(project.materialize()) == ["03", "04"]


def test_a_broken_file_fails_the_run_after_the_sound_ones_are_in(project: Project) -> None:
    project.deliver("a.jsonl", 3)
    (project.feeds / "b.jsonl.gz").write_bytes(b"\x1f\x8b\x08broken")
    assert not project.materialize().success
    assert project.logged() == ["03"]


def test_the_assets_carry_what_the_ui_draws(project: Project) -> None:
    graph = project.definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        "ingest/views",
        "raw/views",
        "raw/views_quarantine",
    }
    raw = graph.get(RAW)
    columns = raw.metadata["dagster/column_schema"].columns
    assert {"event_id", "event_date", "_position"} <= {column.name for column in columns}
    assert (raw.group_name, raw.kinds, graph.get(INGEST).is_executable) == (
        "ingest",
        {"deltalake"},
        True,
    )
    assert not raw.is_executable
    assert [sensor.name for sensor in project.definitions.sensors or []] == ["views_arrival"]


def test_an_unknown_column_is_refused_when_definitions_load(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONTRACT.format(version="1.0.0", more=""))
    stream = EventStream.from_attributes_dict(
        attributes=ATTRIBUTES | {"contract": str(tmp_path / "c.yaml"), "event_time": "when"}
    )
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="'when' is not a field"):
        stream.build_defs(dg.ComponentTree.for_test().load_context)


def test_a_replay_logs_the_dates_it_brought_rows_to(project: Project) -> None:
    project.deliver("a.jsonl", 3)
    project.deliver("b.jsonl", 4, 5)
    (project.feeds / "c.jsonl").write_bytes(lines([event(9, 4, color="red")]))
    project.materialize()
    project.materialize()
    contract = project.feeds.parents[1] / "views.odcs.yaml"
    contract.write_text(
        CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")
    )

    result = project.materialize(replay_quarantine=True)

    assert result.success
    assert newly_logged(result) == ["04"]
    [made] = [e for e in result.get_asset_materialization_events() if e.asset_key == INGEST]
    found = {name: each.value for name, each in made.materialization.metadata.items()}
    assert (found["replay_examined"], found["replay_accepted"]) == (1, 1)
    assert found["in_quarantine"] == 0


def test_the_quarantine_is_shown_by_reason(project: Project) -> None:
    project.deliver("a.jsonl", 3, 3, bad_lines=1)
    result = project.materialize()

    [made] = [e for e in result.get_asset_materialization_events() if e.asset_key == INGEST]
    reasons = made.materialization.metadata["quarantine_reasons"].records
    assert [record.data for record in reasons] == [
        {"rule": "not_json", "field": "", "lines": 1, "contract": "1.0.0"}
    ]
    [refused] = [e for e in result.get_asset_materialization_events() if e.asset_key == REFUSED]
    assert refused.materialization.metadata["reasons"].value == {"not_json": 1}
    shown = {e.check_name: e.metadata for e in result.get_asset_check_evaluations()}
    assert "quarantine_samples" in shown["quarantine_within_limit"]
