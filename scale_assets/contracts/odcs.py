"""Open Data Contract Standard v3 YAML to a Contract, refusing whatever would not be enforced."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from open_data_contract_standard.model import (
    CustomProperty,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)
from pydantic import BaseModel, ValidationError

from scale_assets.contracts.constraints import read_constraints
from scale_assets.contracts.encodings import ENCODINGS
from scale_assets.contracts.model import (
    MAX_PRECISION,
    Contract,
    ContractError,
    Field,
    LogicalType,
)
from scale_assets.contracts.subjects import derived_ids_of, subject_of

SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times as fast

OURS = "scale."  # custom properties with this prefix are ours; the rest belong to other tools
OBJECT_PROPERTIES = {"scale.eventTime", "scale.openSchema", "scale.derivedIds"}
FIELD_PROPERTIES = {"scale.debeziumType", "scale.subject"}
# Documentation, or enforced below; every other key of a field is refused.
FIELD_KEYS = {
    *("name", "description", "businessName", "logicalType", "logicalTypeOptions", "required"),
    *("unique", "primaryKey", "primaryKeyPosition", "classification", "tags", "examples"),
    *("enum", "quality", "customProperties", "criticalDataElement", "authoritativeDefinitions"),
    *("physicalType", "deprecated"),
}
# ODCS has no logical type for exact decimals: they are numbers that say how they are stored.
LOGICAL_TYPES = [name for name in get_args(LogicalType) if name != "decimal"]
ITEM_TYPES = ("string", "integer", "number", "boolean")
DECIMAL = re.compile(r"(?i)^(?:decimal|numeric|number)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)$")


def load_contract(path: Path | str) -> Contract:
    """Read one contract file; raises ContractError naming file, field, value and the way out."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: the contract cannot be read: {error}") from error
    try:
        return parse_contract(text, source=str(path))
    except ContractError as error:
        raise ContractError(_with_line(str(error), text, source=str(path))) from error


def _with_line(message: str, text: str, *, source: str) -> str:
    """The same message, with the line in the file where that can be told from the name alone."""
    named = re.match(rf"{re.escape(source)}: (?:[\w\[\].]+\.)?(\w+): ", message)
    if named is None:
        return message
    name = re.escape(named[1])
    at = re.compile(rf"^[\s{{-]*(?:name:\s*[\"']?{name}[\"']?\s*(?:[,}}#]|$)|{name}:)")
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if at.match(line)]
    return message.replace(source, f"{source}:{lines[0]}", 1) if len(lines) == 1 else message


def parse_contract(text: str, *, source: str) -> Contract:
    """Parse ODCS v3 YAML; ``source`` is how errors name it."""
    try:
        raw = yaml.load(text, Loader=SafeLoader)  # noqa: S506 - it is a safe one
        if not isinstance(raw, dict):
            raise ContractError(f"{source}: expected a YAML mapping, got {type(raw).__name__}")
        document = OpenDataContractStandard(**raw)
    except yaml.YAMLError as error:
        at, problem = source, str(error)
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            at = f"{source}:{error.problem_mark.line + 1}"
            problem = f"{error.problem} {error.context or ''}".strip()
        raise ContractError(f"{at}: not YAML: {problem}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{first['msg']}, got {first['input']!r}"
        raise ContractError(f"{source}: {where}: {problem}; see ODCS v3") from error
    _require(
        (document.apiVersion or "").startswith("v3."),
        f"{source}: apiVersion: {document.apiVersion!r} is not supported; write v3.1.0",
    )
    _require(bool(document.version), f"{source}: version is missing; write e.g. version: 1.0.0")
    objects = document.schema_ or []
    _require(
        len(objects) == 1,
        f"{source}: schema has {len(objects)} objects; write one contract file per source",
    )
    unknown = list(_unknown_keys(raw["schema"][0], objects[0], "schema[0]"))
    _require(not unknown, f"{source}: {', '.join(unknown)}: unknown key; see ODCS v3 for its name")
    return _contract(document, objects[0], source)


def _contract(document: OpenDataContractStandard, table: SchemaObject, source: str) -> Contract:
    name = table.name or document.name
    _require(bool(name), f"{source}: schema[0].name is missing; name the source")
    _require(
        not table.quality,
        f"{source}: schema[0].quality: rules on the whole table are not enforced;"
        " put each rule on its field, or make it an asset check",
    )
    custom = _custom(table.customProperties, OBJECT_PROPERTIES, f"{source}: {name}")
    fields = tuple(_field(prop, source) for prop in table.properties or ())
    names = [field.name for field in fields]
    _require(bool(fields), f"{source}: schema[0].properties is empty; list the source's columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    _require(not twice, f"{source}: {twice} given more than once; field names must differ")
    contract = Contract(
        name=str(name),
        version=str(document.version),
        description=(table.description or "").strip(),
        fields=fields,
        primary_key=_primary_key(table, source),
        event_time=custom.get("scale.eventTime"),
        open=custom.get("scale.openSchema", False),
        owner=_owner(document),
        derived_ids=derived_ids_of(custom.get("scale.derivedIds"), fields, f"{source}: {name}"),
    )
    _check_event_time(contract, source)
    _require(
        isinstance(contract.open, bool),
        f"{source}: scale.openSchema must be true or false, got {contract.open!r}",
    )
    return contract


def _field(prop: SchemaProperty, source: str) -> Field:
    _require(bool(prop.name), f"{source}: a property without a name; every column needs one")
    where = f"{source}: {prop.name}"
    _require(
        not str(prop.name).startswith("_"), f"{where}: names with _ are the system's; rename it"
    )
    known = FIELD_KEYS | ({"items"} if prop.logicalType == "array" else set())
    given = prop.model_dump(exclude_none=True, by_alias=True).keys() - known
    _require(not given, f"{where}: {sorted(given)} not supported; leave out what is not enforced")
    _require(
        prop.logicalType in LOGICAL_TYPES,
        f"{where}: logicalType {prop.logicalType!r} is not supported; use one of {LOGICAL_TYPES}",
    )
    type_ = _type(prop, where)
    custom = _custom(prop.customProperties, FIELD_PROPERTIES, where)
    pii = [tag.removeprefix("pii:") for tag in prop.tags or () if tag.startswith("pii:")]
    _require(len(pii) <= 1, f"{where}: several pii: tags {pii}; give the strictest")
    return Field(
        name=str(prop.name),
        **type_,
        description=(prop.description or "").strip(),
        pii=pii[0] if pii else None,
        classification=prop.classification,
        debezium_type=_debezium_type(custom, type_["type"], where),
        subject=subject_of(custom, type_["type"], where),
        **read_constraints(prop, where, Field(name="", **type_).arrow_type),
    )


def _type(prop: SchemaProperty, where: str) -> dict[str, Any]:
    """The field's type as keyword arguments of Field."""
    if prop.logicalType == "array":
        items = prop.items.logicalType if prop.items else None
        _require(
            items in ITEM_TYPES,
            f"{where}: items.logicalType {items!r}; an array holds one of {list(ITEM_TYPES)}",
        )
        _require(
            not (prop.primaryKey or prop.unique),
            f"{where}: an array cannot be a key; leave out primaryKey and unique",
        )
        return {"type": "array", "items": items}
    written = DECIMAL.match(prop.physicalType or "") if prop.logicalType == "number" else None
    if written is None:
        return {"type": prop.logicalType}
    precision, scale = int(written[1]), int(written[2] or 0)
    _require(
        0 < precision <= MAX_PRECISION and scale <= precision,
        f"{where}: physicalType {prop.physicalType}: at most {MAX_PRECISION} digits, and no more "
        "of them behind the point than there are; without it the number is read as a double",
    )
    return {"type": "decimal", "precision": precision, "scale": scale}


def _debezium_type(custom: dict[str, Any], type_: str, where: str) -> str | None:
    name: str | None = custom.get("scale.debeziumType")
    known = sorted(ENCODINGS.get(type_, ()))
    _require(
        name is None or name in known,
        f"{where}: scale.debeziumType {name!r} is not read as {type_}; use one of {known}",
    )
    return name


def _primary_key(table: SchemaObject, source: str) -> tuple[str, ...]:
    parts = [prop for prop in table.properties or () if prop.primaryKey]
    positions = [prop.primaryKeyPosition for prop in parts]
    if len(parts) > 1:
        _require(
            sorted(positions, key=str) == sorted(range(1, len(parts) + 1), key=str),
            f"{source}: primaryKeyPosition {positions} of {[p.name for p in parts]};"
            f" number them 1 to {len(parts)}",
        )
        parts.sort(key=lambda prop: prop.primaryKeyPosition or 0)
    return tuple(str(prop.name) for prop in parts)


def _check_event_time(contract: Contract, source: str) -> None:
    if contract.event_time is None:
        return
    field = next((f for f in contract.fields if f.name == contract.event_time), None)
    _require(
        field is not None and field.type == "timestamp" and field.required,
        f"{source}: scale.eventTime: {contract.event_time!r} must be a required timestamp field",
    )


def _custom(given: list[CustomProperty] | None, known: set[str], where: str) -> dict[str, Any]:
    custom = {str(p.property): p.value for p in given or () if str(p.property).startswith(OURS)}
    unknown = sorted(custom.keys() - known)
    _require(not unknown, f"{where}: custom property {unknown} unknown; use {sorted(known)}")
    return custom


def _owner(document: OpenDataContractStandard) -> str | None:
    team = document.team
    return team.name if team is not None and not isinstance(team, list) else None


def _unknown_keys(raw: Any, model: Any, where: str) -> Iterator[str]:
    """Keys that the library's models drop in silence: a misspelt ``requird`` must not pass."""
    if isinstance(raw, list) and isinstance(model, list):
        for at, (item, parsed) in enumerate(zip(raw, model, strict=True)):
            yield from _unknown_keys(item, parsed, f"{where}[{at}]")
    elif isinstance(raw, dict) and isinstance(model, BaseModel):
        attributes = {info.alias or name: name for name, info in type(model).model_fields.items()}
        for key, value in raw.items():
            if key not in attributes:
                yield f"{where}.{key}"
            else:
                yield from _unknown_keys(value, getattr(model, attributes[key]), f"{where}.{key}")


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ContractError(problem)
