"""`scale forget`: what a project declares, brought together so that a person can be erased."""

from collections.abc import Iterator

import dagster as dg

from scale_assets.components.change_feed import ChangeFeed
from scale_assets.components.database_capture import DatabaseCapture
from scale_assets.components.event_stream import EventStream
from scale_assets.components.feature_views import FeatureViews
from scale_assets.components.postgres_transport import PostgresTransport
from scale_assets.components.snapshot import Snapshot
from scale_assets.console import Console
from scale_assets.contracts import Pseudonyms
from scale_assets.erasure.check import Checked
from scale_assets.erasure.forget import check, forget
from scale_assets.erasure.person import ErasureError, Feed
from scale_assets.erasure.scope import OutOfReach, Scope, shown
from scale_assets.instance import UNFINISHED, clear_dead_runs, open_instance, sole_driver
from scale_assets.lake import Lake
from scale_assets.settings import Settings

FEEDS = (EventStream, ChangeFeed, DatabaseCapture, Snapshot)
MAX_SHOWN = 20
ONCE_FROM_CHANGES = (ChangeFeed, DatabaseCapture)


def forget_person(
    settings: Settings, console: Console, *, subject: str, id_: str, check_only: bool
) -> None:
    """What `scale forget` does.

    Raises:
        ErasureError: Something of the person is still in the scope; the message names the files.
    """
    from scale_assets.definitions import defs

    definitions = defs()
    ids = [id_, *_pseudonyms(settings, id_)]
    with sole_driver(settings), open_instance(settings) as instance:
        clear_dead_runs(instance)
        scope = scope_of(definitions, instance, settings)
        if check_only:
            conclude(console, check(scope, subject=subject, ids=ids))
            return
        statement = forget(scope, subject=subject, ids=ids, working=console.working)
        files = statement.write(settings.data_dir / "erasure")
    console.line(statement.markdown())
    console.line(f"written to {' and '.join(str(file) for file in files)}")
    conclude(console, statement.checked)


def scope_of(
    definitions: dg.Definitions, instance: dg.DagsterInstance, settings: Settings
) -> Scope:
    """Everything that the project declares and where it is."""
    components = declared_components(definitions)
    feeds = [feed for component in components for feed in _feeds(component)]
    views = [
        view
        for component in components
        if isinstance(component, FeatureViews)
        for view in component.declared_views()
    ]

    def refuse_if_busy() -> None:
        runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        busy = [run.run_id for run in runs if not _only_reads_on(run, feeds)]
        if busy:
            raise ErasureError(
                f"Dagster runs {', '.join(busy)} may be writing tables; let them end, or cancel "
                "them, and run again"
            )

    return Scope(
        lake=Lake(settings.lake_dir, s3=settings.s3),
        feeds=feeds,
        views=views,
        folders=[
            settings.training_dir,
            settings.releases_dir,
            settings.data_dir / "mlflow",
        ],
        online_path=settings.online_store_path,
        redis_url=settings.online_store if settings.online_store_url else None,
        warehouse_path=settings.warehouse_path,
        vectors_dir=settings.vectors_dir,
        out_of_reach=[
            *(each for component in components for each in _sources(component, settings)),
            *_beyond(settings),
        ],
        refuse_if_busy=refuse_if_busy,
    )


def declared_components(definitions: dg.Definitions) -> list[dg.Component]:
    """Every component that declares a feed or feature views."""
    tree = definitions.component_tree
    assert tree is not None
    kinds = (*FEEDS, FeatureViews)
    return [each for kind in kinds for each in tree.get_all_components(of_type=kind)]


def _feeds(component: dg.Component) -> Iterator[Feed]:
    if not isinstance(component, FEEDS):
        return
    of_changes = isinstance(component, ONCE_FROM_CHANGES)
    for name, contract in component.declared_contracts().items():
        yield Feed(
            name=name,
            contract=contract,
            table=f"raw/{name}_changes" if of_changes else f"raw/{name}",
            quarantine_table=f"raw/{name}_quarantine",
        )


def _only_reads_on(run: dg.DagsterRun, feeds: list[Feed]) -> bool:
    """Whether a run only appends to feeds' tables, which notices what is erased meanwhile."""
    chosen = run.asset_selection
    safe = {dg.AssetKey(["ingest", feed.name]) for feed in feeds}
    safe |= {dg.AssetKey(["raw", f"{feed.name}_changes"]) for feed in feeds}
    return chosen is not None and chosen <= safe


def _sources(component: dg.Component, settings: Settings) -> Iterator[OutOfReach]:
    """Where records come from: their owners keep them, and only they can remove them."""
    if isinstance(component, DatabaseCapture):
        where, todo = f"database {component.connection}", "delete the person there"
    elif isinstance(component, ChangeFeed) and isinstance(component.transport, PostgresTransport):
        where, todo = f"database {component.transport.connection}", "delete the person there"
    elif isinstance(component, Snapshot):
        where, todo = f"folder {component.transport.folder(settings)}", "delete the files"
    elif isinstance(component, EventStream | ChangeFeed):
        assert not isinstance(component.transport, PostgresTransport)
        where = component.transport.source(settings).describe()
        todo = (
            "whoever keeps the files removes them; rewriting one makes it another file"
            if component.transport.type == "files"
            else "the broker's retention, or a tombstone on a compacted topic, removes the records"
        )
    else:
        return
    if any(contract.subject_fields() for contract in component.declared_contracts().values()):
        yield OutOfReach(
            what=f"source of {component.name}",
            where=where,
            todo=f"{todo}; until then the suppression list drops what is delivered again",
        )


def _beyond(settings: Settings) -> Iterator[OutOfReach]:
    releases = sorted(path.parent.name for path in settings.releases_dir.glob("*/current"))
    if releases:
        yield OutOfReach(
            what=f"trained models ({', '.join(releases)})",
            where=str(settings.releases_dir),
            todo="they learned from the person's rows among all others; train and release anew",
        )
    if settings.online_store_url:
        yield OutOfReach(
            what="what Redis wrote to its disk",
            where=shown(settings.online_store),
            todo="snapshots and the append-only file hold deleted values until the server's next "
            "BGSAVE and BGREWRITEAOF; replicas and backups until theirs",
        )
    yield OutOfReach(
        what="aggregates over many people",
        where="tables without an identifying column, such as counts per item and statistics of features",
        todo="`scale run` computes them anew, without the person; no statistic is of fewer than ten",
    )
    yield OutOfReach(
        what="logs, run history and reports",
        where=str(settings.data_dir),
        todo="Dagster's event log, MLflow's database, tool logs and HTML reports may quote values; "
        "their own retention removes them",
    )
    yield OutOfReach(
        what="copies",
        where="outside of the places searched",
        todo="exported datasets, backups and file-system snapshots are not known here; delete them "
        "where they are",
    )
    if settings.is_lake_remote:
        yield from _beyond_the_bucket(settings)


def _beyond_the_bucket(settings: Settings) -> Iterator[OutOfReach]:
    """Older versions of objects in the lake's own bucket are searched and deleted like the rest."""
    yield OutOfReach(
        what="what the store made of the bucket's objects",
        where=settings.lake_dir,
        todo="replicas in other buckets, backups, and parts of uploads that were never finished are "
        "not searched; delete them there, and let a lifecycle rule abort unfinished uploads",
    )
    yield OutOfReach(
        what="mirrors of the lake on other machines",
        where="cache/s3 in the data folder of each",
        todo="only this machine's was searched; delete the others, they fill again",
    )


def _pseudonyms(settings: Settings, id_: str) -> list[str]:
    """What the collector stores in place of the id, where it hides personal data."""
    key = settings.collect_pii_key
    if key is None:
        return []
    pseudonyms = Pseudonyms(key=key.get_secret_value(), key_id=settings.collect_pii_key_id)
    return [pseudonyms.of(id_)]


def conclude(console: Console, checked: Checked) -> None:
    """Say that nothing is left of the person, or raise ErasureError with where something is."""
    if checked.residues:
        found = "\n".join(f"- {each.path}: {each.where}" for each in checked.residues[:MAX_SHOWN])
        if (num_more := len(checked.residues) - MAX_SHOWN) > 0:
            found += f"\n- and {num_more:,} more"
        raise ErasureError(f"something of the person is still there:\n{found}")
    console.line(f"{checked.num_files} files searched, nothing of the person found")
