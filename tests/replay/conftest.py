"""A small synthetic world, and inputs written row by row."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale_assets.replay.source import Input, open_input
from scale_assets.replay.tables import COLUMNS, TEXT
from scale_assets.replay.world import WorldSpec, write_world

SMALL = WorldSpec(
    seed=11,
    modules=("AAA", "BBB"),
    terms=("2013B", "2013J"),
    students_per_presentation=30,
    sites_per_presentation=12,
    assessments_per_presentation=2,
    length_days=40,
    undated_share=0.3,
)

CLICK_COLUMNS = ("id_student", "id_site", "date", "sum_click")
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, and thousands of fsyncs take minutes on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Input:
    folder = write_world(tmp_path_factory.mktemp("worlds") / "small", SMALL)
    return open_input(folder, reason="made for the tests")


def write_input(folder: Path, *, clicks: dict[tuple[str, str], Rows], **tables: Rows) -> Input:
    """Write a Parquet input from rows; a column that a row lacks is null."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in COLUMNS.items():
        schema = pa.schema(
            [(column, TEXT if kind == TEXT else pa.float64()) for column, kind in columns.items()]
        )
        pq.write_table(
            pa.Table.from_pylist(tables.get(name, []), schema=schema), folder / f"{name}.parquet"
        )
    for (module, term), rows in clicks.items():
        home = folder / f"studentVle_ds/code_module={module}/code_presentation={term}"
        home.mkdir(parents=True, exist_ok=True)
        schema = pa.schema([(column, pa.float64()) for column in CLICK_COLUMNS])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), home / "part-0.parquet")
    return open_input(folder, reason="written by the test")


@pytest.fixture
def one_course(tmp_path: Path) -> Callable[..., Input]:
    """Builds an input with one presentation, AAA-2013B (day 0 is 2013-02-01), 30 days long."""
    key = {"code_module": "AAA", "code_presentation": "2013B"}
    tables_with_key = set(COLUMNS) - {"courses", "studentAssessment"}

    def build(*, clicks: Rows, **tables: Rows) -> Input:
        keyed = {
            name: [key | row for row in rows] if name in tables_with_key else rows
            for name, rows in tables.items()
        }
        courses = [key | {"module_presentation_length": 30}]
        return write_input(
            tmp_path / "input", clicks={("AAA", "2013B"): clicks}, courses=courses, **keyed
        )

    return build
