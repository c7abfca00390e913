"""Reads a Feast repository's declarations from its source, so that Feast need not be imported.

Importing Feast takes 5-15 seconds, and definitions must load fast. The files are parsed, never run:
a declaration is an assignment of a literal call, such as ``clicks = FeatureView(name="clicks", ...)``.
The ``apply`` step compares what was read here with what Feast itself loaded.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from scale_assets.errors import ScaleError

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


def read_repo(folder: str | Path) -> FeatureRepo:
    """Read every declaration in the folder's Python files.

    Raises:
        FeatureRepoError: The folder has no feature_store.yaml, or a declaration is not literal.
    """
    folder = Path(folder)
    if not (folder / "feature_store.yaml").is_file():
        raise FeatureRepoError(f"{folder} is no feature repository: it has no feature_store.yaml")
    return _read(tuple((path, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.py"))))


@lru_cache(maxsize=8)  # several components read the same repository
def _read(files: tuple[tuple[Path, int], ...]) -> FeatureRepo:
    modules = {path.stem: _Module(path) for path, _ in files}
    declared: list[Any] = []
    for module in modules.values():
        declared.extend(module.declarations(modules))
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
        return [
            self._evaluate(value, modules)
            for value in self._assigned.values()
            if isinstance(value, ast.Call) and self._called(value) in _BUILDERS
        ]

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
            case ast.Subscript(value=view, slice=names):  # view[["clicks_7d"]] in a service
                return _project(self._evaluate(view, modules), self._evaluate(names, modules))
            case ast.Attribute(attr=name):
                return name  # ValueType.STRING: the member's name
            case ast.Call(args=args, keywords=keywords) if self._called(node) in _CALLS:
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
        try:
            return _CALLS[self._called(node)](*arguments, **named)
        except (TypeError, KeyError, AttributeError) as error:
            raise FeatureRepoError(f"{self.path}:{node.lineno}: {error}") from error

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


def _project(view: ViewDeclaration, names: list[str]) -> ViewDeclaration:
    types = dict(view.columns)
    unknown = [name for name in names if name not in types]
    if unknown:
        raise FeatureRepoError(f"feature view {view.name!r} has no column {unknown[0]!r}")
    return replace(view, columns=tuple((name, types[name]) for name in names))


def _ignored(*_: Any, **__: Any) -> None:
    """A part that says nothing about columns, such as DeltaFormat()."""


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
