"""Reads a Feast repository's declarations from its source, so that Feast need not be imported.

Importing Feast takes 5-15 seconds, and definitions must load fast. The files are parsed, never run:
a declaration is an assignment of a literal call, such as ``clicks = FeatureView(name="clicks", ...)``
or ``views = dbt_views("../dbt_project", entities=[user])`` for views that dbt models declare, and
``stream_views("streams.yml", entities=[user])`` for those over streams.
The ``apply`` step compares what was read here with what Feast itself loaded.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from scale_assets.errors import ScaleError
from scale_assets.features.marts import mart_views
from scale_assets.features.streaming.declared import StreamingView, declared_streams

_TYPES = {
    "Bool": "bool",
    "Int32": "int32",
    "Int64": "int64",
    "Float32": "float32",
    "Float64": "float64",
    "String": "string",
    "Bytes": "bytes",
    "UnixTimestamp": "timestamp",
}


class FeatureRepoError(ScaleError):
    """A declaration that cannot be read without running it, or that names something unknown."""


@dataclass(frozen=True)
class EntityDeclaration:
    """What features describe, by its join keys."""

    name: str
    join_keys: tuple[str, ...]


@dataclass(frozen=True)
class SourceDeclaration:
    """A table of the lake and its two times."""

    table: str
    feature_time: str
    known_at: str | None


@dataclass(frozen=True)
class ViewDeclaration:
    """A feature view: columns are (name, codec type) in order; ttl None never expires."""

    name: str
    join_keys: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    ttl: timedelta | None
    source: SourceDeclaration
    declared_in: Path | None = field(default=None, compare=False)
    stream: StreamingView | None = None  # of a view over a stream's events
    picked: tuple["Pick", ...] = field(default=(), compare=False)  # by name, in a service


@dataclass(frozen=True)
class Pick:
    """A column that a service names, and where it does: a file, or one of its lines."""

    column: str
    file: Path
    line: int


@dataclass(frozen=True)
class FeatureRepo:
    """Views and services by name; a service is its views, each with the columns that it reads."""

    views: Mapping[str, ViewDeclaration]
    services: Mapping[str, tuple[ViewDeclaration, ...]]

    def service(self, name: str) -> tuple[ViewDeclaration, ...]:
        """The views that a service reads, in its order."""
        if name not in self.services:
            raise FeatureRepoError(
                f"feature service {name!r} is not declared; there are {sorted(self.services)}"
            )
        return self.services[name]

    def refuse_missing_picks(self) -> None:
        """Raises FeatureRepoError: a service names a column that its view does not have.

        Feast leaves such a name out in silence.
        """
        for name, views in self.services.items():
            for view in views:
                known = dict(self.views.get(view.name, view).columns)
                for pick in view.picked:
                    if pick.column not in known:
                        raise FeatureRepoError(
                            f"{pick.file}:{pick.line}: service {name!r} reads {pick.column!r} of "
                            f"{view.name}, which has no such column{_meant(pick.column, known)}"
                        )


def read_repo(folder: str | Path) -> FeatureRepo:
    """Read every declaration in the folder's Python files.

    Raises:
        FeatureRepoError: The folder has no feature_store.yaml, or a declaration is not literal.
    """
    folder = Path(folder)
    if not (folder / "feature_store.yaml").is_file():
        raise FeatureRepoError(f"{folder} is no feature repository: it has no feature_store.yaml")
    modules = {path.stem: _module(path, path.stat().st_mtime_ns) for path in folder.glob("*.py")}
    declared: list[Any] = []
    for name in sorted(modules):
        declared.extend(modules[name].declarations(modules))
    return FeatureRepo(
        views=_by_name(d for d in declared if isinstance(d, ViewDeclaration)),
        services={d.name: d.views for d in declared if isinstance(d, _Service)},
    )


def _by_name(views: Any) -> dict[str, ViewDeclaration]:
    named: dict[str, ViewDeclaration] = {}
    for view in views:
        if view.name in named:
            raise FeatureRepoError(f"feature view {view.name!r} is declared twice")
        named[view.name] = view
    return named


@dataclass(frozen=True)
class _Service:
    name: str
    views: tuple[ViewDeclaration, ...]


class _Module:
    """One file: its literal assignments, resolved on demand across files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._assigned: dict[str, ast.expr] = {}
        self._imported: dict[str, tuple[str, str]] = {}
        for node in ast.parse(path.read_text(), filename=str(path)).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._assigned[name] = value
                case ast.ImportFrom(module=str(module), names=names):
                    for alias in names:
                        self._imported[alias.asname or alias.name] = (module, alias.name)

    def declarations(self, modules: Mapping[str, "_Module"]) -> list[Any]:
        """Every assigned Feast object; other assignments are read only where one refers to them."""
        declared: list[Any] = []
        for value in self._assigned.values():
            if isinstance(value, ast.Call) and self._called(value) in (*_BUILDERS, *_FAMILIES):
                found = self._evaluate(value, modules)
                declared.extend(found.values() if isinstance(found, dict) else [found])
        return declared

    def _called(self, call: ast.Call) -> str:
        """The imported name that is called, whatever it was renamed to here."""
        if not isinstance(call.func, ast.Name):
            return ast.unparse(call.func)
        return self._imported.get(call.func.id, ("", call.func.id))[1]

    def _evaluate(self, node: ast.expr, modules: Mapping[str, "_Module"]) -> Any:  # noqa: PLR0911
        match node:
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._evaluate(item, modules) for item in items]
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {
                    self._evaluate(k, modules): self._evaluate(v, modules) for k, v in pairs if k
                }
            case ast.Name(id=name):
                return self._resolve(name, node, modules)
            case ast.Subscript(value=of, slice=index):
                return self._subscript(
                    node, self._evaluate(of, modules), self._evaluate(index, modules)
                )
            case ast.Attribute(attr=name):
                return name  # ValueType.STRING: the member's name
            case ast.Call(args=args, keywords=keywords) if self._called(node) in (
                *_CALLS,
                *_FAMILIES,
            ):
                named = {k.arg: self._evaluate(k.value, modules) for k in keywords if k.arg}
                arguments = [self._evaluate(argument, modules) for argument in args]
                return self._call(node, arguments, named)
        raise self._not_literal(node)

    def _resolve(self, name: str, node: ast.expr, modules: Mapping[str, "_Module"]) -> Any:
        if name in self._assigned:
            return self._evaluate(self._assigned[name], modules)
        module, original = self._imported.get(name, ("", name))
        if module in modules:
            return modules[module]._resolve(original, node, modules)  # noqa: SLF001
        if original in _TYPES:
            return _TYPES[original]
        raise self._not_literal(node)

    def _call(self, node: ast.Call, arguments: list[Any], named: dict[str, Any]) -> Any:
        called = self._called(node)
        try:
            if called in _FAMILIES:
                return _FAMILIES[called](self.path.parent, *arguments, **named)
            made = _CALLS[called](*arguments, **named)
        except (TypeError, KeyError, AttributeError) as error:
            raise FeatureRepoError(f"{self.path}:{node.lineno}: {error}") from error
        return replace(made, declared_in=self.path) if isinstance(made, ViewDeclaration) else made

    def _subscript(self, node: ast.expr, of: Any, index: Any) -> Any:
        """``views["clicks"]``, or in a service ``clicks[["clicks_7d"]]``."""
        if isinstance(of, ViewDeclaration):
            return _project(of, index, self.path, node.lineno)
        if isinstance(of, dict) and index in of:
            return of[index]
        if isinstance(of, dict):
            raise FeatureRepoError(
                f"{self.path}:{node.lineno}: no view {index!r} is declared{_meant(index, of)}"
            )
        raise self._not_literal(node)

    def _not_literal(self, node: ast.expr) -> FeatureRepoError:
        return FeatureRepoError(
            f"{self.path}:{node.lineno}: cannot read `{ast.unparse(node)}` without running it; "
            "write Feast declarations as literal calls"
        )


def _entity(*, name: str, join_keys: list[str] | None = None, **_: Any) -> EntityDeclaration:
    return EntityDeclaration(name, tuple(join_keys or [name]))


def _source(
    *, path: str, timestamp_field: str, created_timestamp_column: str = "", **_: Any
) -> SourceDeclaration:
    return SourceDeclaration(path, timestamp_field, created_timestamp_column or None)


def _view(
    *,
    name: str,
    entities: list[EntityDeclaration],
    schema: list[tuple[str, str]],
    source: SourceDeclaration,
    ttl: timedelta | None = None,
    **_: Any,
) -> ViewDeclaration:
    join_keys = tuple(key for entity in entities for key in entity.join_keys)
    columns = tuple(column for column in schema if column[0] not in join_keys)
    return ViewDeclaration(name, join_keys, columns, ttl or None, source)


def _service(*, name: str, features: list[ViewDeclaration], **_: Any) -> _Service:
    return _Service(name, tuple(features))


@lru_cache(maxsize=256)  # several components read the same repository
def _module(path: Path, mtime_ns: int) -> _Module:  # noqa: ARG001
    return _Module(path)


def _dbt_views(
    folder: Path, project: str, *, entities: list[EntityDeclaration]
) -> dict[str, ViewDeclaration]:
    """The views that a dbt project's models declare; the path is from the repository's folder."""
    join_keys = {entity.name: entity.join_keys for entity in entities}
    views = {}
    for mart in mart_views((folder / project).resolve()):
        if mart.entity not in join_keys:
            raise FeatureRepoError(
                f"{mart.path}: model {mart.name}: entity {mart.entity!r} is not declared in "
                f"{folder}{_meant(mart.entity, join_keys)}"
            )
        keys, names = join_keys[mart.entity], [name for name, _ in mart.columns]
        missing = [key for key in keys if key not in names]
        if missing:
            raise FeatureRepoError(
                f"{mart.path}: model {mart.name} has no column {missing[0]!r}, the join key of "
                f"{mart.entity!r}{_meant(missing[0], names)}"
            )
        views[mart.name] = ViewDeclaration(
            name=mart.name,
            join_keys=keys,
            columns=tuple(column for column in mart.columns if column[0] not in keys),
            ttl=mart.ttl,
            source=SourceDeclaration(mart.name, mart.feature_time, mart.known_at),
            declared_in=mart.path,
        )
    return views


def _stream_views(
    folder: Path, file: str, *, entities: list[EntityDeclaration]
) -> dict[str, ViewDeclaration]:
    """The views over streams that a file declares; its path is from the repository's folder."""
    join_keys = {entity.name: entity.join_keys for entity in entities}
    views = {}
    for declared in declared_streams(folder / file):
        keys = join_keys.get(declared.entity, ())
        if len(keys) != 1:
            raise FeatureRepoError(
                f"{declared.path}: entity {declared.entity!r} must be one with one join key; "
                f"{folder} gives {join_keys}"
            )
        stream = declared.of(keys[0])
        views[stream.name] = ViewDeclaration(
            name=stream.name,
            join_keys=keys,
            columns=tuple(stream.aggregates.types.items()),
            ttl=None,
            source=SourceDeclaration(
                stream.table, stream.columns.event_time, stream.columns.received_at
            ),
            declared_in=declared.path,
            stream=stream,
        )
    return views


def _meant(name: str, known: Any) -> str:
    """What to try instead of a name that is not there."""
    near = get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {sorted(known)}"


def _project(view: ViewDeclaration, names: list[str], file: Path, line: int) -> ViewDeclaration:
    """A name that the view lacks stays among what was picked: `refuse_missing_picks` tells."""
    types = dict(view.columns)
    return replace(
        view,
        columns=tuple((name, types[name]) for name in names if name in types),
        picked=tuple(Pick(name, file, line) for name in names),
    )


def _ignored(*_: Any, **__: Any) -> None:
    """A part that says nothing about columns, such as DeltaFormat()."""


# Of feature_repo/dbt_views.py and stream_views.py; given the folder that they are called in.
_FAMILIES: dict[str, Callable[..., dict[str, ViewDeclaration]]] = {
    "dbt_views": _dbt_views,
    "stream_views": _stream_views,
}
_BUILDERS: dict[str, Callable[..., Any]] = {
    "Entity": _entity,
    "FileSource": _source,
    "FeatureView": _view,
    "FeatureService": _service,
}
_CALLS: dict[str, Callable[..., Any]] = {
    **_BUILDERS,
    "Field": lambda *, name, dtype, **_: (name, dtype),
    "Array": lambda item: f"list<{item}>",
    "timedelta": timedelta,
    "DeltaFormat": _ignored,
}
