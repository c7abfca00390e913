"""One person leaves every table, file and store; everybody else stays, and every row is counted."""

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from scale_assets.erasure import delta
from scale_assets.erasure.forget import check, forget
from scale_assets.erasure.person import ErasureError
from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import open_backend
from scale_assets.ingest import ingestion as ingestion_module
from scale_assets.ingest import suppression
from scale_assets.ingest.account import account
from scale_assets.ingest.ingestion import Ingestion, ingest
from scale_assets.ingest.suppression import SUPPRESSION_LIST, SuppressionList
from scale_assets.lake import Lake
from tests.erasure.conftest import (
    GONE,
    STAYS,
    VIEW,
    Shop,
    change,
    derive_all,
    in_small_batches,
    json_lines,
    visit,
)

TABLES = ("raw/visits", "raw/members_changes", "members", "members_history")


def test_the_person_is_found_before(shop: Shop) -> None:
    found = check(shop.scope, subject="user", ids=[str(GONE)])

    places = {
        residue.path.removeprefix(f"{shop.root}/").split("/part-")[0] for residue in found.residues
    }
    assert places >= {
        "lake/raw/visits/event_date=2013-01-01",
        "lake/raw/visits_quarantine/event_date=2013-01-03",
        "lake/members",
        "lake/accounts",
        "training/train",
        "training/predictions",
        "online.db",
        "warehouse.duckdb",
    }


def test_nothing_of_the_person_is_left_and_all_others_are(shop: Shop) -> None:
    statement = shop.forget()

    assert statement.checked.residues == ()
    assert statement.checked.num_files > 20
    assert shop.users("raw/visits") == {STAYS, 9}
    assert all(GONE not in shop.users(table) for table in TABLES)
    assert all(STAYS in shop.users(table) for table in TABLES)
    others = ["north-4712", "north-9"]
    assert shop.lake.read("accounts")["account_id"].to_pylist() == others
    for name in ("train", "predictions"):
        file = shop.root / "training" / name / "part-0.parquet"
        assert pq.read_table(file)["account_id"].to_pylist() == others
    with open_backend(shop.root / "online.db") as backend:
        assert list(backend.keys(VIEW.name)) == [others]
    assert OnlineReader(shop.root / "online.db").read(VIEW.name, ["north-9"])[0] is not None
    with duckdb.connect(str(shop.root / "warehouse.duckdb")) as warehouse:
        assert warehouse.sql("select account_id from seen").fetchall() == [(o,) for o in others]


def test_quarantined_lines_go_by_their_fields_or_else_by_their_bytes(shop: Shop) -> None:
    statement = shop.forget()

    raws = shop.lake.read("raw/visits_quarantine")["raw"].to_pylist()
    assert sorted(raws) == sorted(
        [
            json.dumps({**visit(11, STAYS), "item_id": "many"}).encode(),
            b'{"user_id": 4712, "shop',
            b"no line",
        ]
    )
    assert shop.lake.num_rows("raw/members_quarantine") == 0
    [left] = [each for each in statement.out_of_reach if each.where == "raw/visits_quarantine"]
    assert left.what == "2 quarantined lines that cannot be parsed"


def test_every_row_stays_accounted_for(shop: Shop) -> None:
    before = [account(shop.lake, feed) for feed in (shop.visits, shop.members)]

    shop.forget()

    after = [account(shop.lake, feed) for feed in (shop.visits, shop.members)]
    assert [each.received for each in after] == [each.received for each in before]
    assert [each.erased for each in after] == [5, 3]
    assert all(each.is_exact for each in after)


def test_older_versions_can_no_longer_be_read(shop: Shop) -> None:
    versions = {table: shop.lake.version(table) for table in TABLES}

    shop.forget()

    for table, version in versions.items():
        for number in range(version + 1):
            with pytest.raises(Exception, match=r"No files in log segment"):
                shop.lake.read(table, version=number)


def test_what_is_delivered_again_is_dropped_and_counted(shop: Shop) -> None:
    shop.forget()
    shop.deliver(
        shop.visits,
        "2.jsonl",
        json_lines(
            [visit(20, GONE, day=5), visit(21, STAYS, day=5), {**visit(22, GONE), "shop": 1}]
        )
        + b'{"user_id": 4711, "sh\n',
    )
    again = [change("u", GONE, "Rye", lsn=8), change("d", GONE, "Rye", lsn=9)]
    shop.deliver(shop.members, "2.jsonl", json_lines([*again, change("u", STAYS, "Ely", lsn=10)]))

    reports = [ingest(shop.lake, feed) for feed in (shop.visits, shop.members)]

    assert [each.num_erased for each in reports] == [3, 2]
    assert [each.num_accepted for each in reports] == [1, 1]
    assert all(account(shop.lake, feed).is_exact for feed in (shop.visits, shop.members))
    assert check(shop.scope, subject="user", ids=[str(GONE)]).residues == ()


def test_derived_tables_made_anew_do_not_bring_the_person_back(shop: Shop) -> None:
    shop.forget()
    kept = {table: shop.lake.read(table).to_pylist() for table in ("members", "members_history")}

    derive_all(shop)

    assert {table: shop.lake.read(table).to_pylist() for table in kept} == kept
    assert check(shop.scope, subject="user", ids=[str(GONE)]).residues == ()


def test_forgetting_again_changes_no_row(shop: Shop) -> None:
    shop.forget()
    accounts = [account(shop.lake, feed) for feed in (shop.visits, shop.members)]

    again = shop.forget()

    assert sum(each.num_rows for each in again.erased) == 0
    assert [account(shop.lake, feed) for feed in (shop.visits, shop.members)] == accounts


def test_someone_who_was_never_there_stays_out(shop: Shop) -> None:
    statement = shop.forget(user=31337)

    assert sum(each.num_rows for each in statement.erased) == 0
    assert shop.users("raw/visits") == {GONE, STAYS, 9}


def test_neither_list_nor_statement_tells_the_id(shop: Shop) -> None:
    statement = shop.forget()
    files = statement.write(shop.root / "erasure")

    assert str(GONE) not in json.dumps(asdict(statement)).replace(str(shop.root), "")
    assert all(str(GONE) not in file.read_text().replace(str(shop.root), "") for file in files)
    rows = shop.lake.read(SUPPRESSION_LIST)
    assert set(rows["name"].to_pylist()) == {"user", "account_id"}
    assert all(str(GONE).encode() not in value for value in rows["digest"].to_pylist())
    assert "topic" in files[1].read_text()


def test_an_unknown_kind_of_person_is_refused(shop: Shop) -> None:
    with pytest.raises(ErasureError, match=r"identifies a driver; declared kinds are \['user'\]"):
        forget(shop.scope, subject="driver", ids=["1"], working=lambda _: nullcontext())


@pytest.mark.parametrize("nth", [1, 2], ids=["before the quarantine", "before the rows"])
def test_a_batch_that_was_judged_before_is_judged_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The person is forgotten between a batch's reading of the list and its commit."""
    rows = [visit(20, GONE, day=5), visit(21, 9, day=5), {**visit(22, GONE), "shop": 1}]
    shop.deliver(shop.visits, "2.jsonl", json_lines(rows))
    append = ingestion_module.append
    commits = []

    def late(*args: Any, **kwargs: Any) -> Any:
        commits.append(args)
        if len(commits) == nth:
            shop.forget()
        return append(*args, **kwargs)

    monkeypatch.setattr(ingestion_module, "append", late)
    ingest(shop.lake, shop.visits)

    assert shop.users("raw/visits") == {STAYS, 9}
    assert account(shop.lake, shop.visits).is_exact
    assert account(shop.lake, shop.visits).erased == 7
    assert check(shop.scope, subject="user", ids=[str(GONE)]).residues == ()


def test_a_batch_between_quarantine_and_rows_is_finished_without_the_person(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [visit(20, GONE, day=5), {**visit(22, GONE), "shop": 1}, {**visit(23, 9), "shop": 1}]
    shop.deliver(shop.visits, "2.jsonl", json_lines([*lines, visit(24, 9, day=6)]))

    def die(point: str) -> None:
        if point == "after_quarantine":
            raise RuntimeError(point)

    with monkeypatch.context() as patch:
        patch.setattr("scale_assets.ingest.ingestion.fault_point", die)
        with pytest.raises(RuntimeError):
            ingest(shop.lake, shop.visits)
    shop.forget()
    ingest(shop.lake, shop.visits)

    assert account(shop.lake, shop.visits).is_exact
    assert account(shop.lake, shop.visits).erased == 7
    assert check(shop.scope, subject="user", ids=[str(GONE)]).residues == ()


def test_a_commit_between_is_started_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ingestion commits after erasure has counted the rows, and before it deletes them."""
    shop.deliver(shop.visits, "2.jsonl", json_lines([visit(21, 9, day=5)]))
    rows_of = delta._rows_of
    interrupted = []

    def slow(handle: object, person: object) -> object:
        found = rows_of(handle, person)  # type: ignore[arg-type]
        if handle.table_uri.rstrip("/").endswith("raw/visits") and not interrupted:  # type: ignore[attr-defined]
            interrupted.append(ingest(shop.lake, shop.visits).num_accepted)
        return found

    monkeypatch.setattr(delta, "_rows_of", slow)
    statement = shop.forget()

    assert interrupted == [1]
    assert statement.checked.residues == ()
    assert account(shop.lake, shop.visits).is_exact
    assert shop.lake.num_rows("raw/visits") == 3


def test_ingestion_goes_on_after_the_log_was_cut(shop: Shop) -> None:
    """A follower that opened the tables long before reads on."""
    follower = Ingestion(shop.lake, shop.visits)
    follower.open()
    shop.forget()
    shop.deliver(shop.visits, "2.jsonl", json_lines([visit(21, 9, day=5)]))

    with follower.source.reading() as reading:
        while not follower.through(reading):
            pass

    assert shop.lake.num_rows("raw/visits") == 3
    assert account(shop.lake, shop.visits).is_exact


def test_the_list_is_one_file_however_many_are_on_it(shop: Shop) -> None:
    listed = SuppressionList(shop.lake)
    for number in range(5):
        listed.add([], person=("user", str(number)))

    found = listed.newest()

    assert found is not None
    assert all(found.has("user", str(number)) for number in range(5))
    assert not found.has("user", "5")
    assert not found.has("account_id", "1")
    assert len(shop.lake.files(SUPPRESSION_LIST)) == 1


def test_two_who_are_forgotten_at_once_are_both_on_the_list(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = suppression.commit_files
    others = []

    def late(*args: object, **kwargs: object) -> int:
        if not others:
            others.append(1)
            SuppressionList(Lake(shop.lake.root)).add([], person=("user", "2"))
        return commit(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(suppression, "commit_files", late)
    listed = SuppressionList(shop.lake)
    listed.add([], person=("user", "1"))

    found = listed.newest()
    assert found is not None
    assert found.has("user", "1")
    assert found.has("user", "2")


def test_small_batches_count_alike(shop: Shop) -> None:
    shop.forget()
    small = in_small_batches(shop)
    rows = [visit(30 + n, GONE if n % 2 else 9, day=5) for n in range(6)]
    shop.deliver(small.visits, "2.jsonl", json_lines(rows))

    report = ingest(small.lake, small.visits)

    assert report.num_batches > 1
    assert (report.num_accepted, report.num_erased) == (3, 3)
    assert account(small.lake, small.visits).is_exact


def test_nothing_is_erased_while_runs_write_tables(shop: Shop) -> None:
    def busy() -> None:
        raise ErasureError("a run is writing")

    with pytest.raises(ErasureError, match="a run is writing"):
        forget(
            replace(shop.scope, refuse_if_busy=busy),
            subject="user",
            ids=[str(GONE)],
            working=lambda _: nullcontext(),
        )
    assert GONE in shop.users("raw/visits")
