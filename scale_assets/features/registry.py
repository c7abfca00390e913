"""Feast's registry: applies the repository and compares it with what ``repo`` read from source."""

import fcntl
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scale_assets.features.repo import FeatureRepo, FeatureRepoError, ViewDeclaration

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

_importing = threading.Lock()


@dataclass(frozen=True)
class Applied:
    """How many objects the registry holds, and the names that this apply took out."""

    num_entities: int
    num_views: int
    num_services: int
    deleted: tuple[str, ...]


def open_store(folder: Path) -> "FeatureStore":
    """The Feast store of a repository; its settings' variables must be in the environment.

    Waits while somebody applies a repository to the same registry, so as to read all of it or nothing.
    """
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(folder))
    with _sole_user(store):
        store.refresh_registry()
    return store


def apply_repo(folder: Path, repo: FeatureRepo) -> Applied:
    """Bring the registry and the online tables to what the repository declares.

    Feast's own ``apply_total`` changes the process's working directory, which a server with several
    runs in one process cannot have. Whoever applies at the same time, in any process, waits.

    Raises:
        FeatureRepoError: Feast loaded other views than ``repo`` read from the same files, or a
            service names a column that is not there.
    """
    repo.refuse_missing_picks()
    from feast import FeatureStore
    from feast.repo_operations import extract_objects_for_apply_delete

    store = FeatureStore(repo_path=str(folder))
    contents = _load_objects(folder, project=store.project)
    _check_agrees(repo, contents.feature_views, contents.feature_services)
    for view in contents.feature_views:
        store._get_provider().validate_data_source(store.config, view.batch_source)  # noqa: SLF001
    with _sole_user(store):  # the registry is read first where it is first asked for: here
        to_apply, to_delete, _, _ = extract_objects_for_apply_delete(
            store.project, store.registry, contents
        )
        store.apply(to_apply, objects_to_delete=to_delete, partial=False)
    return Applied(
        num_entities=len(contents.entities) - 1,  # without Feast's dummy
        num_views=len(contents.feature_views),
        num_services=len(contents.feature_services),
        deleted=tuple(sorted(found.name for found in to_delete)),
    )


@contextmanager
def _sole_user(store: "FeatureStore") -> Iterator[None]:
    """Nobody else applies or opens a registry in a file meanwhile.

    Feast applies object by object, each in transactions of its own, and reads before it writes.
    """
    scheme, _, path = str(store.config.registry.path).partition(":///")
    if scheme != "sqlite":
        yield  # a server's
        return
    lock = Path(f"{path}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _load_objects(folder: Path, *, project: str) -> Any:
    """Import the repository's files by bare name, as Feast does, without leaving them imported."""
    from feast import Entity, FeatureService, FeatureView, Project
    from feast.data_source import DataSource
    from feast.feature_view import DUMMY_ENTITY
    from feast.repo_contents import RepoContents

    with _imported(folder) as modules:
        found = {id(value): value for module in modules for value in vars(module).values()}
    objects = list(found.values())

    def of(kind: type) -> list[Any]:
        return [value for value in objects if isinstance(value, kind)]

    views = of(FeatureView)
    inline = {id(view.batch_source): view.batch_source for view in views}
    return RepoContents(
        projects=[Project(name=project)],  # left out, it would be deleted with all it holds
        data_sources=list(({id(source): source for source in of(DataSource)} | inline).values()),
        entities=[*of(Entity), DUMMY_ENTITY],  # Feast's own, for views without entities
        feature_views=views,
        feature_services=of(FeatureService),
        on_demand_feature_views=[],
        stream_feature_views=[],
        label_views=[],
        permissions=[],
    )


@contextmanager
def _imported(folder: Path) -> Iterator[list[ModuleType]]:
    names = [path.stem for path in sorted(folder.glob("*.py"))]
    with _importing:
        others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            yield [importlib.import_module(name) for name in names]
        finally:
            sys.path.remove(str(folder))
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(others)


def _check_agrees(repo: FeatureRepo, views: list["FeatureView"], services: list[Any]) -> None:
    loaded = {view.name: _described(view) for view in views}
    read = {view.name: (view.columns, view.ttl, *_source(view)) for view in repo.views.values()}
    for name in sorted(read.keys() | loaded.keys()):
        if read.get(name) != loaded.get(name):
            raise FeatureRepoError(
                f"feature view {name!r} reads as {read.get(name)} from its source, but Feast loads "
                f"{loaded.get(name)}; write it as one literal call"
            )
    names = {service.name for service in services}
    if names != repo.services.keys():
        raise FeatureRepoError(
            f"services {sorted(repo.services)} read from source, but Feast loads {sorted(names)}"
        )


def _source(view: ViewDeclaration) -> tuple[str, str, str | None]:
    return view.source.table, view.source.feature_time, view.source.known_at


def _described(view: "FeatureView") -> tuple[Any, ...]:
    from scale_assets.features.values import codec_type

    columns = tuple((field.name, codec_type(view, field)) for field in view.features)
    source = view.batch_source
    times = (source.timestamp_field, source.created_timestamp_column or None)
    return columns, view.ttl or None, source.path, *times
