"""Declarations are read without Feast, or refused with their line."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from scale_assets.features.repo import FeatureRepoError, read_repo

VIEW = """
from datetime import timedelta as delta_of
from feast import Entity, FeatureService, FeatureView as View, Field, FileSource
from feast.types import Array, Float64, Int64
from feast.data_format import DeltaFormat

user = Entity(name="user", join_keys=["user_id"])
table = FileSource(name="t", path="clicks", file_format=DeltaFormat(), timestamp_field="at")
clicks = View(
    name="clicks",
    entities=[user],
    ttl=delta_of(hours=2),
    schema=[Field(name="user_id", dtype=Int64), Field(name="n", dtype=Int64), Field(name="s", dtype=Array(Float64))],
    source=table,
)
service = FeatureService(name="all", features=[clicks])
some = FeatureService(name="some", features=[clicks[["s"]]])
unrelated = print
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text("project: test\n")
    return tmp_path


def test_reads_views_and_services(folder: Path) -> None:
    (folder / "views.py").write_text(VIEW)

    repo = read_repo(folder)

    view = repo.views["clicks"]
    assert view.join_keys == ("user_id",)
    assert view.columns == (("n", "int64"), ("s", "list<float64>"))  # the join key is no feature
    assert view.ttl == timedelta(hours=2)
    assert (view.source.table, view.source.feature_time, view.source.known_at) == (
        "clicks",
        "at",
        None,
    )
    assert repo.service("all") == (view,)
    assert repo.service("some")[0].columns == (("s", "list<float64>"),)


def test_names_from_other_files_are_followed(folder: Path) -> None:
    head, _, tail = VIEW.partition("clicks = View(")
    (folder / "entities.py").write_text(head)
    imports = "from entities import user, table\n" + "\n".join(head.splitlines()[:5])
    (folder / "views.py").write_text(f"{imports}\nclicks = View({tail}")

    assert read_repo(folder).views["clicks"].source.table == "clicks"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name="n"', 'name="n".upper()', r"views.py:\d+: cannot read `'n'.upper\(\)`"),
        ("dtype=Int64)]", "dtype=Decimal)]", "cannot read `Decimal`"),
        ("source=table", "sauce=table", "source"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(
    folder: Path, old: str, new: str, message: str
) -> None:
    text = VIEW.replace('Field(name="s", dtype=Array(Float64))]', 'Field(name="s", dtype=Int64)]')
    (folder / "views.py").write_text(text.replace(old, new))

    with pytest.raises(FeatureRepoError, match=message):
        read_repo(folder)


def test_a_service_that_names_a_missing_column_is_refused_with_its_line(folder: Path) -> None:
    """Not by reading, so that whoever lists the consumers of a column can: Feast says nothing."""
    (folder / "views.py").write_text(VIEW.replace('clicks[["s"]]', 'clicks[["s", "z"]]'))

    repo = read_repo(folder)

    assert repo.service("some")[0].columns == (("s", "list<float64>"),)
    assert [pick.column for pick in repo.service("some")[0].picked] == ["s", "z"]
    with pytest.raises(FeatureRepoError, match=r"views\.py:17: service 'some' reads 'z' of clicks"):
        repo.refuse_missing_picks()


def test_a_view_declared_twice_is_refused(folder: Path) -> None:
    (folder / "views.py").write_text(VIEW)
    (folder / "more.py").write_text(VIEW)

    with pytest.raises(FeatureRepoError, match="'clicks' is declared twice"):
        read_repo(folder)


def test_missing_folders_and_services_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatureRepoError, match=r"feature_store\.yaml"):
        read_repo(tmp_path / "nowhere")
    with pytest.raises(FeatureRepoError, match="'churn_v9'"):
        read_repo(folder).service("churn_v9")


def test_neither_feast_nor_pandas_is_imported() -> None:
    """Serving reads the online store, and definitions load, without them."""
    program = (
        "import sys; from scale_assets.features import reader, repo, codec;"
        "found = {'feast', 'pandas', 'duckdb', 'dagster'} & sys.modules.keys(); sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
