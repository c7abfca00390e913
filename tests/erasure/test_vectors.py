"""Served vectors of a person leave the log; those of others, and of views with other keys, stay."""

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scale_assets.erasure.forget import check, forget
from scale_assets.erasure.scope import Scope
from scale_assets.features.repo import SourceDeclaration, ViewDeclaration
from serving.vector_files import VectorFiles
from tests.erasure.conftest import GONE, STAYS, VIEW, Shop

ITEMS = ViewDeclaration(
    name="items",
    join_keys=("item_id",),
    columns=(("visits", "int64"),),
    ttl=None,
    source=SourceDeclaration("items", "feature_time", None),
)
USERS = ViewDeclaration(
    name="users",
    join_keys=("shop", "user_id"),
    columns=(("visits", "int64"),),
    ttl=None,
    source=SourceDeclaration("users", "feature_time", None),
)


def line(view: str, key: str, **values: Any) -> bytes:
    read = {"key": key, "state": "found", "as_of_us": 1}
    said = {"served_at_us": 1, "model": "m", "version": "1", "feature_service": "s"}
    return json.dumps({**said, "views": {view: read}, "values": values}).encode() + b"\n"


@pytest.fixture
def log(shop: Shop) -> Path:
    path = shop.root / "vectors" / "20260101T000000.000000Z-ab.jsonl"
    path.parent.mkdir()
    path.write_bytes(
        line(VIEW.name, f"north-{GONE}")
        + line(VIEW.name, f"north-{STAYS}")
        + line("users", f"north\x1f{GONE}")  # no letters of a template around the number
        + line("users", f"north\x1f{STAYS}")
        + line("items", str(GONE))  # an item that happens to have the same number
        + line("gone_view", f"south-{GONE}")
        + b'{"torn'
    )
    return path


def scope_of(shop: Shop) -> Scope:
    return replace(shop.scope, views=[VIEW, ITEMS, USERS])


def test_the_person_is_found_by_line(shop: Shop, log: Path) -> None:
    found = check(scope_of(shop), subject="user", ids=[str(GONE)])

    assert {each.where for each in found.residues if each.path == str(log)} == {
        "line 1",
        "line 3",
        "line 6",
    }


def test_the_persons_lines_go_and_nothing_else(shop: Shop, log: Path) -> None:
    before = log.read_bytes().splitlines()
    statement = forget(
        scope_of(shop), subject="user", ids=[str(GONE)], working=lambda _: nullcontext()
    )

    assert log.read_bytes().splitlines() == [before[at] for at in (1, 3, 4, 6)]
    assert log.stat().st_mode & 0o777 == 0o600
    assert statement.checked.residues == ()
    assert str(log.parent) in statement.scope
    (said,) = [each for each in statement.erased if each.name == str(log)]
    assert (said.num_rows, said.num_files_rewritten) == (3, 1)


def test_a_server_that_still_writes_starts_another_file(shop: Shop) -> None:
    folder = shop.root / "vectors"
    files = VectorFiles(folder, max_bytes=10**6, max_age=timedelta(days=1))
    files.append(line(VIEW.name, f"north-{GONE}"))
    shop.forget()

    files.append(line(VIEW.name, f"north-{STAYS}"))

    kept = b"".join(path.read_bytes() for path in folder.iterdir())
    assert kept == line(VIEW.name, f"north-{STAYS}")
