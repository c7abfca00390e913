"""What is wrong with a declaration, in a line per mistake: file, line, field, value, way out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pydantic import ValidationError

from scale_assets.errors import ScaleError

# Dagster names a component that fails by its folder under defs/, and its place in the file.
COMPONENT = re.compile(r"\AError while [a-z ]+ (\S+)\[\d+\]:")
PLACE = re.compile(r"`?(?P<field>[^`]*?) at (?P<file>[^`]+):(?P<line>\d+)`?\Z")
UNION_TAG = re.compile(r"\.tagged-union\[[^]]*\]")
NO_SUCH_NAME = re.compile(r"Module `(\S+)` (?:has no attribute `(\S+)`|not found)")
NO_NUMBER = re.compile(r"Unable to apply constraint '\w+' to supplied value (.+)", re.DOTALL)


class DeclarationRefused(ScaleError):
    """A YAML file under defs/, or a contract that one names, is not what it must be."""


@contextmanager
def explained(defs_dir: Path) -> Iterator[None]:
    """Turn what Dagster raises while it loads ``defs_dir`` into the mistake alone.

    Raises:
        DeclarationRefused: A person's mistake; anything else passes with its traceback.
    """
    try:
        yield
    except Exception as error:
        causes = list(_causes(error))
        files = [_file_of(each, defs_dir) for each in causes]
        declared_in = next((file for file in files if file), None)
        mistakes = next(
            (found for each in causes if (found := _mistakes(each, defs_dir, declared_in))), None
        )
        if mistakes is None:
            raise
        raise DeclarationRefused("\n".join(mistakes)) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _file_of(error: BaseException, defs_dir: Path) -> Path | None:
    named = COMPONENT.match(str(error))
    return defs_dir / named[1] / "defs.yaml" if named else None


def _mistakes(error: BaseException, defs_dir: Path, declared_in: Path | None) -> list[str]:
    """The lines that say what a person got wrong, if this error does."""
    if isinstance(error, ScaleError):
        return [f"{error}" if declared_in is None else f"{error} (declared in {declared_in})"]
    if isinstance(error, ValidationError):
        return list(_refused_fields(error))
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        doing = f" {error.context}" if error.context else ""
        return [f"{mark.name}:{mark.line + 1}: not YAML: {error.problem}{doing}"]
    if named := NO_SUCH_NAME.search(str(error)):
        return [_no_such_type(".".join(filter(None, named.groups())), defs_dir)]
    if declared_in and isinstance(error, TypeError) and (given := NO_NUMBER.match(str(error))):
        return [f"{_with_line(declared_in, given[1])}: {given[1]!r} is given for a number"]
    return []


def _refused_fields(error: ValidationError) -> Iterator[str]:
    found = error.errors(include_url=False)
    # Every field may be a template, hence a string; that alternative explains nothing.
    telling = [each for each in found if each["type"] != "string_type"] or found
    for each in telling:
        where = ".".join(str(part) for part in each["loc"])
        place = PLACE.search(where)
        field = UNION_TAG.sub("", place["field"] if place else where).removeprefix("attributes.")
        at = f"{place['file']}:{place['line']}: " if place else ""
        yield f"{at}{field}: {each['msg']}{_way_out(error.title, field, each)}"


def _way_out(model: str, field: str, found: Any) -> str:
    if found["type"] == "missing":
        return ""  # what was given is all that is there
    got = f", got {found['input']!r}"
    if found["type"] != "extra_forbidden":
        return got
    from scale_assets import components

    declared = getattr(components, model.removesuffix("Model"), None)
    if "." in field or not (isinstance(declared, type) and issubclass(declared, dg.Model)):
        return f"{got}; leave it out, or mend its name"
    return f"{got}; the keys of {declared.__name__} are {', '.join(sorted(declared.model_fields))}"


def _no_such_type(type_: str, defs_dir: Path) -> str:
    says = f"type: there is no {type_!r}; `dg list components` shows what there is"
    for file in sorted(defs_dir.rglob("defs.yaml")):
        if f"type: {type_}" in file.read_text(encoding="utf-8"):
            return f"{_with_line(file, type_)}: {says}"
    return says


def _with_line(file: Path, value: str) -> str:
    """The file, with the line of its one value that begins so."""
    at = re.compile(rf":\s*[\"']?{re.escape(value)}")
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [number for number, line in enumerate(lines, start=1) if at.search(line)]
    return f"{file}:{found[0]}" if len(found) == 1 else str(file)
