"""Feature views as dbt models declare them, in `meta: feature_view` beside their columns.

feature_repo/dbt_views.py makes Feast's objects of the same files by the same rule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from scale_assets.errors import ScaleError

KEYS = {"entity", "feature_time", "known_at", "ttl", "exclude"}
REQUIRED = ("entity", "feature_time")
TYPES = {
    "boolean": "bool",
    "integer": "int32",
    "int": "int32",
    "bigint": "int64",
    "float": "float32",
    "real": "float32",
    "double": "float64",
    "varchar": "string",
    "string": "string",
    "text": "string",
    "blob": "bytes",
    "binary": "bytes",
    "timestamptz": "timestamp",
    "timestamp with time zone": "timestamp",
}


class MartError(ScaleError):
    """A model's `feature_view` that does not say what a feature view needs."""


@dataclass(frozen=True)
class MartView:
    """What one model declares; ``columns`` are (name, codec type), the join key among them."""

    name: str
    entity: str
    columns: tuple[tuple[str, str], ...]
    feature_time: str
    known_at: str | None
    ttl: timedelta | None
    path: Path


def mart_views(project: Path) -> list[MartView]:
    """The feature views that a dbt project's models declare, in the order of their files.

    Raises:
        MartError: The folder is no dbt project, or a declaration is not complete.
    """
    settings_path = project / "dbt_project.yml"
    if not settings_path.is_file():
        raise MartError(f"{project} is no dbt project: it has no dbt_project.yml")
    settings = _load(settings_path, settings_path.stat().st_mtime_ns)
    views: dict[str, MartView] = {}
    for folder in settings.get("model-paths", ["models"]):
        for path in sorted((project / folder).rglob("*.y*ml")):
            for view in _views_of(path, path.stat().st_mtime_ns):
                if view.name in views:
                    raise MartError(f"{path}: {views[view.name].path} declares {view.name} too")
                views[view.name] = view
    return list(views.values())


@lru_cache(maxsize=1024)  # several components read the same project
def _views_of(path: Path, mtime_ns: int) -> tuple[MartView, ...]:
    if "feature_view" not in path.read_text():  # most files, and parsing takes longest
        return ()
    return tuple(_declared(_load(path, mtime_ns), path))


@lru_cache(maxsize=1024)
def _load(path: Path, mtime_ns: int) -> Mapping[str, Any]:  # noqa: ARG001
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = yaml.load(path.read_text(), Loader=loader)  # noqa: S506
    return found if isinstance(found, Mapping) else {}


def _declared(document: Mapping[str, Any], path: Path) -> Iterator[MartView]:
    for model in document.get("models") or ():
        said = ((model.get("config") or {}).get("meta") or {}).get("feature_view")
        if said is not None:
            yield _view(model, said, path)


def _view(model: Mapping[str, Any], said: Mapping[str, Any], path: Path) -> MartView:
    where = f"{path}: model {model['name']}: feature_view"
    unknown = sorted(said.keys() - KEYS)
    if unknown:
        raise MartError(f"{where} has no key {unknown[0]!r}; its keys are {sorted(KEYS)}")
    for key in REQUIRED:
        if key not in said:
            raise MartError(f"{where} lacks {key!r}")
    columns = {column["name"]: column for column in model.get("columns") or ()}
    times = [said["feature_time"], *([said["known_at"]] if "known_at" in said else [])]
    for name in (*times, *said.get("exclude", ())):
        if name not in columns:
            raise MartError(f"{where} names {name!r}, which is none of the columns {list(columns)}")
    left_out = {*times, *said.get("exclude", ())}
    return MartView(
        name=model["name"],
        entity=said["entity"],
        columns=tuple(
            (name, _codec_type(column.get("data_type"), f"{where}: column {name}"))
            for name, column in columns.items()
            if name not in left_out
        ),
        feature_time=said["feature_time"],
        known_at=said.get("known_at"),
        ttl=_ttl(said.get("ttl"), where),
        path=path,
    )


def _ttl(said: Any, where: str) -> timedelta | None:
    try:
        return timedelta(**said) if said else None
    except TypeError:
        raise MartError(f"{where}: ttl is {said!r}; write it as ttl: {{days: 7}}") from None


def _codec_type(data_type: str | None, where: str) -> str:
    """`bigint[]` (DuckDB) and `array<bigint>` (Spark) are lists."""
    spelled = (data_type or "").lower().strip()
    if spelled.endswith("[]"):
        return f"list<{_codec_type(spelled[:-2], where)}>"
    if spelled.startswith("array<") and spelled.endswith(">"):
        return f"list<{_codec_type(spelled[6:-1], where)}>"
    kind = TYPES.get(spelled.split("(")[0].strip())
    if kind is None:
        raise MartError(
            f"{where} has data_type {data_type!r}, which no feature can have; cast it to one of "
            f"{sorted(TYPES)} or a list of them, or name it under `exclude`"
        )
    return kind
