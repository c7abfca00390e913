"""Which input is taken, and that both layouts of the tables mean the same."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scale_assets.replay.feeds import replay
from scale_assets.replay.source import Input, InputError, find_input, open_input
from scale_assets.replay.tables import COLUMNS
from scale_assets.replay.world import WorldSpec
from tests.replay.test_feeds import texts

TINY = WorldSpec(
    modules=("AAA",),
    terms=("2013B",),
    students_per_presentation=5,
    sites_per_presentation=4,
    assessments_per_presentation=1,
    length_days=28,
)


@pytest.fixture
def csv_world(small_world: Input, tmp_path: Path) -> Input:
    """The small world as the official archive has it: every field quoted, nothing for null."""
    folder = tmp_path / "csv"
    folder.mkdir()
    for name in COLUMNS:
        table = pq.ParquetFile(small_world.table_path(name)).read()
        write_quoted(folder / f"{name}.csv", table.column_names, table.to_pylist())
    clicks = []
    for path in small_world.click_files():
        module, term = (part.name.partition("=")[2] for part in (path.parents[1], path.parent))
        key = {"code_module": module, "code_presentation": term}
        clicks += [key | row for row in pq.ParquetFile(path).read().to_pylist()]
    # Records of several presentations may alternate; the order within each is what counts.
    clicks.sort(key=lambda row: row["date"])
    order = ("code_module", "code_presentation", "id_student", "id_site", "date", "sum_click")
    write_quoted(folder / "studentVle.csv", order, clicks)
    return open_input(folder, reason="test")


def write_quoted(path: Path, columns, rows) -> None:
    lines = [",".join(f'"{column}"' for column in columns)]
    for row in rows:
        texts = (row[column] for column in columns)
        texts = (f"{v:g}" if isinstance(v, float) and v.is_integer() else v for v in texts)
        lines.append(",".join('""' if v is None else f'"{v}"' for v in texts))
    path.write_text("\r\n".join(lines) + "\r\n")


def test_the_official_csv_files_give_the_same_feeds(
    small_world: Input, csv_world: Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scale_assets.replay.clicks.CSV_BLOCK_BYTES", 10_000)
    replay(small_world, tmp_path / "parquet", modules=["BBB"])
    replay(csv_world, tmp_path / "csv_feeds", modules=["BBB"])

    from_csv, from_parquet = texts(tmp_path / "csv_feeds"), texts(tmp_path / "parquet")
    assert from_csv.pop("replay.json") != from_parquet.pop("replay.json")
    assert from_csv == from_parquet


def test_question_marks_are_missing_values(csv_world: Input, tmp_path: Path) -> None:
    replay(csv_world, tmp_path / "before", modules=["AAA"])
    for name in COLUMNS:
        path = csv_world.table_path(name)
        path.write_text(path.read_text().replace('""', '"?"'))
    replay(csv_world, tmp_path / "after", modules=["AAA"])

    before, after = texts(tmp_path / "before"), texts(tmp_path / "after")
    assert before.pop("replay.json") != after.pop("replay.json")
    assert before == after


def test_clicks_of_an_unlisted_course_are_refused(csv_world: Input, tmp_path: Path) -> None:
    with csv_world.table_path("studentVle").open("a") as file:
        file.write('"ZZZ","2013B","1","1","0","1"\r\n')

    with pytest.raises(InputError, match="studentVle has rows of ZZZ-2013B"):
        replay(csv_world, tmp_path / "feeds", modules=["AAA"])


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        pytest.param('"Withdr', r"studentVle\.csv ends inside a quoted value", id="in a value"),
        pytest.param('"AAA","2013B"', r"studentVle cannot be read", id="between two values"),
    ],
)
def test_a_cut_off_table_is_named(csv_world: Input, tmp_path: Path, cut: str, message: str) -> None:
    with csv_world.table_path("studentVle").open("a") as file:
        file.write(cut)

    with pytest.raises(InputError, match=message):
        replay(open_input(csv_world.folder, reason="test"), tmp_path / "feeds")


def test_a_last_line_without_its_end_is_whole(csv_world: Input) -> None:
    path = csv_world.table_path("vle")
    path.write_text(path.read_text().rstrip())

    assert open_input(csv_world.folder, reason="test") == csv_world


def test_a_missing_column_is_named(small_world: Input, tmp_path: Path) -> None:
    shutil.copytree(small_world.folder, tmp_path / "input")
    path = tmp_path / "input/vle.parquet"
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["week_to"]), path)

    with pytest.raises(InputError, match=r"vle\.parquet.*week_to"):
        replay(open_input(tmp_path / "input", reason="test"), tmp_path / "feeds")


def test_inputs_are_looked_for_in_order(small_world: Input, tmp_path: Path) -> None:
    project, cache, explicit = tmp_path / "home/project", tmp_path / "cache", tmp_path / "mine"
    project.mkdir(parents=True)

    def taken(chosen: Path | None = None) -> Input:
        return find_input(chosen, cache, project_root=project)

    synthetic = taken()
    assert synthetic.folder.parent == cache
    assert "scale fetch oulad" in synthetic.description
    shutil.copytree(small_world.folder, cache / "oulad")
    assert taken().folder == cache / "oulad"
    assert "downloaded" in taken().description
    shutil.copytree(small_world.folder, project.parent / "shared/data/oulad")
    assert taken().folder == project.parent / "shared/data/oulad"
    assert "shared/data/oulad" in taken().description
    shutil.copytree(small_world.folder, explicit)
    assert taken(explicit).folder == explicit
    assert "--input" in taken(explicit).description
    assert "\n" not in taken(explicit).description


def test_a_synthetic_world_can_be_asked_for(tmp_path: Path) -> None:
    made = find_input(None, tmp_path, project_root=tmp_path, synthetic=TINY)

    assert TINY.digest() in made.folder.name
    with pytest.raises(InputError, match="exclude each other"):
        find_input(tmp_path, tmp_path, project_root=tmp_path, synthetic=TINY)


def test_a_missing_or_incomplete_folder_is_refused(small_world: Input, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        open_input(tmp_path / "nowhere", reason="test")
    shutil.copytree(small_world.folder, tmp_path / "half")
    (tmp_path / "half/vle.parquet").unlink()
    shutil.rmtree(tmp_path / "half/studentVle_ds")
    with pytest.raises(InputError, match=r"lacks vle\.parquet, studentVle_ds/"):
        open_input(tmp_path / "half", reason="test")


def test_the_fingerprint_follows_contents_not_place(small_world: Input, tmp_path: Path) -> None:
    copy = open_input(Path(shutil.copytree(small_world.folder, tmp_path / "copy")), reason="test")
    assert copy.fingerprint() == small_world.fingerprint()

    path = copy.table_path("courses")
    path.write_bytes(path.read_bytes()[:-1] + b"0")
    assert copy.fingerprint() != small_world.fingerprint()
