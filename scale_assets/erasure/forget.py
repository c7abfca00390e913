"""Forgetting one person: on the list first, then out of every table and file, then the proof.

Each step may be repeated, so that a run that was killed is finished by running it again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime

from scale_assets.erasure.check import Checked, check_scope
from scale_assets.erasure.columns import id_paths
from scale_assets.erasure.delta import Erased, erase_lines, erase_rows, fence, purge
from scale_assets.erasure.derived import derived_ids
from scale_assets.erasure.files import erase_file, parquet_files
from scale_assets.erasure.online import erase_online
from scale_assets.erasure.person import ErasureError, Feed, Person
from scale_assets.erasure.scope import OutOfReach, Scope
from scale_assets.erasure.statement import Statement
from scale_assets.erasure.vectors import erase_vectors
from scale_assets.erasure.warehouse import erase_warehouse
from scale_assets.ingest.suppression import SUPPRESSION_LIST, SuppressionList, digest_of
from scale_assets.lake import fault_point

Working = Callable[[str], AbstractContextManager[None]]


def forget(scope: Scope, *, subject: str, ids: Sequence[str], working: Working) -> Statement:
    """Erase one person; ``ids`` are the id that was asked for and other spellings of it.

    Raises:
        ErasureError: No contract declares this kind of person, or something is in use.
    """
    person = Person(subject=subject, ids=frozenset(ids), feeds=scope.feeds)
    scope.refuse_if_busy()
    with working("suppression list"):
        person = _listed(scope, person, ids[0])
    erased: list[Erased] = []
    fault_point("after_listing")
    with working("derived tables"):
        erased += _derived_tables(scope, person)
    with working("datasets and predictions"):
        erased += [erase_file(path, person) for path in parquet_files(scope.folders)]
    with working("online store"):
        erased += erase_online(scope.online_path, scope.views, person)
        if scope.redis_url:
            erased += erase_online(scope.redis_url, scope.views, person)
    with working("served vectors"):
        erased += erase_vectors(scope.vectors_dir, scope.views, person)
    with working("warehouse"):
        erased += erase_warehouse(scope.warehouse_path, person)
    with working("ingested tables and quarantine"):
        erased += _ingested_tables(scope, person)
    with working("check"):
        checked = check_scope(scope, person)
    return Statement(
        request=request_of(scope, subject, ids[0]),
        subject=subject,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        scope=scope.names(),
        erased=[each for each in erased if each.num_rows or each.num_files_deleted],
        checked=checked,
        out_of_reach=[*_unattributed(erased), *scope.out_of_reach],
    )


def check(scope: Scope, *, subject: str, ids: Sequence[str]) -> Checked:
    """Search the scope for someone, forgotten or not."""
    listed = SuppressionList(scope.lake).of_person(subject, ids[0])
    derived = derived_ids(scope.lake, scope.feeds, subject=subject, ids=ids)
    person = Person(
        subject=subject,
        ids=frozenset(ids),
        feeds=scope.feeds,
        derived=frozenset(derived),
        listed=listed,
    )
    return check_scope(scope, person)


def request_of(scope: Scope, subject: str, id_: str) -> str:
    """The digest that stands for the person in statements."""
    known = SuppressionList(scope.lake).newest()
    if known is None:
        raise ErasureError("nobody is on the suppression list; run `scale forget` first")
    return digest_of(known.salt, subject, id_).hex()


def _listed(scope: Scope, person: Person, id_: str) -> Person:
    """Put the person on the list, then every id that their rows make.

    Between the two, ingestion is made to read the list: after that no new rows of theirs come.
    """
    asked = (person.subject, id_)
    suppressions = SuppressionList(scope.lake)
    suppressions.add([(person.subject, each) for each in person.ids], person=asked)
    for feed in _feeds_of(scope, person):
        for table in (feed.table, feed.quarantine_table):
            if scope.lake.exists(table):
                fence(scope.lake, table)
    derived = derived_ids(scope.lake, scope.feeds, subject=person.subject, ids=person.ids)
    suppressions.add(derived, person=asked)
    return replace(person, listed=suppressions.of_person(*asked))


def _feeds_of(scope: Scope, person: Person) -> Iterator[Feed]:
    for feed in scope.feeds:
        if feed.contract.subject_fields(person.subject):
            yield feed


def _derived_tables(scope: Scope, person: Person) -> Iterator[Erased]:
    """Everything in the lake that is made of what was ingested.

    It goes first: until it is done, the ingested rows tell whose derived ids to look for.
    """
    lake = scope.lake
    ingested = {SUPPRESSION_LIST}
    for feed in scope.feeds:
        ingested |= {feed.table, feed.quarantine_table}
    for table in lake.tables():
        if table not in ingested and id_paths(lake.schema(table), person.names):
            yield _purged(scope, erase_rows(lake, table, person))


def _ingested_tables(scope: Scope, person: Person) -> Iterator[Erased]:
    lake = scope.lake
    for feed in _feeds_of(scope, person):
        if lake.exists(feed.quarantine_table):
            yield _purged(scope, erase_lines(lake, feed, person))
        if lake.exists(feed.table):
            yield _purged(scope, erase_rows(lake, feed.table, person, feed=feed))


def _purged(scope: Scope, done: Erased) -> Erased:
    fault_point("after_erase")
    deleted = purge(scope.lake, done.name, refuse_if_busy=scope.refuse_if_busy)
    return replace(done, num_files_deleted=deleted)


def _unattributed(erased: Sequence[Erased]) -> Iterator[OutOfReach]:
    for each in erased:
        if each.num_unattributed:
            yield OutOfReach(
                what=f"{each.num_unattributed} quarantined lines that cannot be parsed",
                where=each.name,
                todo="the id's bytes are not in them, and nothing else tells whose they are; "
                "delete them if they need not be replayed",
            )
