"""A check that cannot fail proves nothing: whatever is left anywhere is found, and named."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale_assets.erasure.forget import check
from scale_assets.lake.commits import append
from tests.erasure.conftest import GONE, Shop, fill, moved, push, shop_in, visit

Plant = Callable[[Shop], Path]


def in_a_file_that_no_version_names(shop: Shop) -> Path:
    path = shop.root / "lake/raw/visits/event_date=2013-01-01/orphan.parquet"
    pq.write_table(pa.table({"user_id": [1, GONE]}), path)
    return path


def in_a_row(shop: Shop) -> Path:
    handle = shop.lake.open("accounts")
    before = set(handle.file_uris())
    append(handle, pa.table({"account_id": ["south-4711"], "day_id": ["-"]}), positions={})
    return Path(next(iter(set(handle.file_uris()) - before)))


def in_text_made_of_a_derived_id(shop: Shop) -> Path:
    path = shop.root / "training/train/more.parquet"
    pq.write_table(pa.table({"day_id": ["north-9-d1", "north-4711-d1"]}), path)
    return path


def in_a_dictionary_of_which_no_row_uses_it(shop: Shop) -> Path:
    path = shop.root / "training/train/more.parquet"
    values = pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(["north-9", "north-4711"]))
    pq.write_table(pa.table({"account_id": values}), path)
    return path


def in_a_nested_column(shop: Shop) -> Path:
    path = shop.root / "training/train/more.parquet"
    pq.write_table(pa.table({"seen": [[{"user_id": 9}, {"user_id": GONE}]]}), path)
    return path


def in_a_partition_folder(shop: Shop) -> Path:
    folder = shop.root / "training/by/user_id=4711"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}), folder / "part.parquet")
    return folder / "part.parquet"


def in_a_quarantined_line(shop: Shop) -> Path:
    table = shop.visits.quarantine_table
    row = shop.lake.read(table).slice(0, 1)
    raw = pa.array([json.dumps({**visit(40, GONE), "shop": 1}).encode()])
    handle = shop.lake.open(table)
    before = set(handle.file_uris())
    append(handle, row.set_column(row.schema.get_field_index("raw"), "raw", raw), positions={})
    return Path(next(iter(set(handle.file_uris()) - before)))


def in_statistics_of_the_log(shop: Shop) -> Path:
    path = min((shop.root / "lake/raw/visits/_delta_log").glob("0*.json"))
    stats = {"numRecords": 1, "minValues": {"user_id": 1}, "maxValues": {"user_id": GONE}}
    action = {"remove": {"path": "x.parquet", "stats": json.dumps(stats)}}
    path.write_text(f"{path.read_text().rstrip()}\n{json.dumps(action)}\n")
    return path


def in_a_predicate_of_the_log(shop: Shop) -> Path:
    path = shop.root / "lake/members/_delta_log/00000000000000000000.json"
    said = {"operationParameters": {"predicate": "user_id = 4711"}}
    path.write_text(json.dumps({"commitInfo": said}) + "\n")
    return path


def in_statistics_of_a_checkpoint(shop: Shop) -> Path:
    [path] = (shop.root / "lake/members/_delta_log").glob("*.checkpoint.parquet")
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["add"]:
            row["add"]["stats"] = json.dumps({"maxValues": {"user_id": GONE}})
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return path


def in_the_online_store(shop: Shop) -> Path:
    push(shop, ["north-4711"])
    return shop.root / "online.db"


def in_free_pages_of_the_online_store(shop: Shop) -> Path:
    path = shop.root / "online.db"
    push(shop, [f"south-{number}" for number in range(4700, 4800)])
    connection = sqlite3.connect(path)
    connection.execute("pragma secure_delete = off")
    connection.execute('delete from "view:account_activity"')
    connection.commit()
    connection.close()
    return path


def in_the_warehouse(shop: Shop) -> Path:
    path = shop.root / "warehouse.duckdb"
    with duckdb.connect(str(path)) as warehouse:
        warehouse.execute("insert into accounts values ('north-4711', null)")
    return path


def in_a_text_file(shop: Shop) -> Path:
    path = shop.root / "training/run.json"
    path.write_text('{"worst": "north-4711"}')
    return path


@pytest.mark.parametrize(
    "plant",
    [
        in_a_file_that_no_version_names,
        in_a_row,
        in_text_made_of_a_derived_id,
        in_a_dictionary_of_which_no_row_uses_it,
        in_a_nested_column,
        in_a_partition_folder,
        in_a_quarantined_line,
        in_statistics_of_the_log,
        in_a_predicate_of_the_log,
        in_statistics_of_a_checkpoint,
        in_the_online_store,
        in_free_pages_of_the_online_store,
        in_the_warehouse,
        in_a_text_file,
    ],
    ids=lambda plant: plant.__name__,
)
def test_what_is_left_is_found_and_named(clean: Shop, plant: Plant) -> None:
    path = plant(clean)

    found = check(clean.scope, subject="user", ids=[str(GONE)])

    files = {residue.path for residue in found.residues}
    assert str(path) in files
    assert all("_delta_log" in file for file in files - {str(path)})  # which has its statistics


@pytest.mark.parametrize("text", ["north-47110", "north-14711", "item 4711", "2013-4712"])
def test_what_is_not_theirs_is_left_alone(clean: Shop, text: str) -> None:
    (clean.root / "training/run.json").write_text(json.dumps({"worst": text}))
    pq.write_table(pa.table({"note": [text]}), clean.root / "training/train/more.parquet")

    assert check(clean.scope, subject="user", ids=[str(GONE)]).residues == ()


def test_a_table_whose_log_is_lost_is_searched_too(clean: Shop) -> None:
    path = in_a_row(clean)
    shutil.rmtree(clean.root / "lake/accounts/_delta_log")

    found = check(clean.scope, subject="user", ids=[str(GONE)])

    assert {residue.path for residue in found.residues} == {str(path)}


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop that has forgotten the person."""
    shop = shop_in(tmp_path_factory.mktemp("erased") / "shop")
    fill(shop)
    assert shop.forget().checked.residues == ()
    return shop


@pytest.fixture
def clean(erased: Shop, tmp_path: Path) -> Shop:
    """A copy of it, to plant something in."""
    shutil.copytree(erased.root, tmp_path / "shop")
    return moved(erased, tmp_path / "shop")
