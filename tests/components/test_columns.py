"""Columns that are read by name: each is there, or every file that names it is told."""

from pathlib import Path

import dagster as dg
import pytest

from scale_assets.components.columns import (
    DECLARED_IN,
    LINEAGE,
    SCHEMA,
    UNKNOWN_LINEAGE,
    ColumnsMissing,
    ColumnUse,
    check_columns,
    uses_metadata,
)

ROOT = Path("/project")
VISITS = dg.AssetKey(["raw", "visits"])


def table(*columns: str) -> dg.AssetSpec:
    schema = dg.TableSchema([dg.TableColumn(name) for name in columns])
    return dg.AssetSpec(VISITS, metadata={SCHEMA: schema})


def reader(
    name: str, made_from: dict[str, str], *, reads: str = "", where: str = ""
) -> dg.AssetSpec:
    """An asset with columns made from those of visits, that reads one more."""
    lineage = {column: [dg.TableColumnDep(VISITS, dep)] for column, dep in made_from.items()}
    uses = [ColumnUse(VISITS, reads, where)] if reads else []
    return dg.AssetSpec(
        name,
        metadata={
            LINEAGE: dg.TableColumnLineage(lineage),
            DECLARED_IN: f"{ROOT}/defs/{name}.yaml",
            **uses_metadata(reads=uses),
        },
    )


def test_columns_that_are_there_pass() -> None:
    check_columns([table("page", "day"), reader("pages", {"page": "page"}, reads="day")], root=ROOT)


def test_every_file_that_names_a_missing_column_is_told() -> None:
    specs = [
        table("pages", "day"),
        reader("counts", {"page": "page"}),
        reader("days", {"day": "day"}, reads="page", where="models/days.sql"),
        reader("weeks", {"day": "day"}, reads="page"),
    ]

    with pytest.raises(ColumnsMissing) as refused:
        check_columns(specs, root=ROOT)

    assert str(refused.value).splitlines() == [
        "raw/visits has no column 'page'; did you mean pages? It is named by",
        "  defs/counts.yaml: counts",
        "  defs/weeks.yaml: weeks",
        "  models/days.sql: days",
    ]


def test_a_name_like_no_other_gets_all_that_there_are() -> None:
    with pytest.raises(ColumnsMissing, match=r"'xyzzy'; it has day, page\."):
        check_columns([table("page", "day"), reader("a", {"x": "xyzzy"})], root=ROOT)


@pytest.mark.parametrize(
    "spec",
    [
        dg.AssetSpec(VISITS),
        dg.AssetSpec(VISITS, metadata={UNKNOWN_LINEAGE: "no SQL", **table("page").metadata}),
    ],
)
def test_what_is_not_known_is_not_refused(spec: dg.AssetSpec) -> None:
    check_columns([spec, reader("counts", {"n": "number"})], root=ROOT)
