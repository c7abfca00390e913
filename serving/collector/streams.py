"""Which messages go into which stream, and which column holds what: one small YAML file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from scale_assets.contracts import Contract, Pseudonyms, load_contract
from serving.collector.errors import CollectorError
from serving.collector.segment import FIELDS, OBJECTS, Message

Type = Literal["alias", "group", "identify", "page", "screen", "track"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]

# What the collector itself knows of a message.
FACTS = ("received_at", "event_time", "source", "user_agent", "client_address")


class StreamDeclaration(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One stream of the file."""

    name: Name
    contract: str
    columns: dict[str, str]
    types: list[Type] | None = None  # every type, unless given
    events: list[str] | None = None  # names of track messages; every name, unless given
    partition_by: str | None = None  # the column that is a Kafka message's key


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: a message goes into the first stream that takes it."""

    streams: Annotated[list[StreamDeclaration], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, eq=False)
class Stream:
    """A declared stream with its contract, checked against each other."""

    name: str
    contract: Contract
    columns: dict[str, str]
    types: frozenset[str] | None
    events: frozenset[str] | None
    partition_by: str | None

    def takes(self, message: Message) -> bool:
        if self.types is not None and message["type"] not in self.types:
            return False
        if self.events is None or message["type"] != "track":
            return True
        event = message.get("event")
        return isinstance(event, str) and event in self.events


def load_streams(path: Path, pseudonyms: Pseudonyms | None) -> list[Stream]:
    """Read the declaration and the contracts that it names, relative to it.

    Raises:
        CollectorError: It cannot be read, or does not fit a contract.
        ContractError: A contract cannot be read, or describes a field that it says to hide.
    """
    declared = _read(path)
    names = [each.name for each in declared.streams]
    if len(set(names)) < len(names):
        raise CollectorError(f"{path}: streams {names}: two have the same name")
    return [_stream(path, each, pseudonyms) for each in declared.streams]


def _read(path: Path) -> Declaration:
    try:
        given: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(given, Declaration)
    except OSError as error:
        raise CollectorError(
            f"{path} cannot be read ({error.strerror}); declare the streams there, or set "
            "SCALE_COLLECT_STREAMS"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise CollectorError(f"{path}: {error}") from None


def _stream(path: Path, declared: StreamDeclaration, pseudonyms: Pseudonyms | None) -> Stream:
    where = f"{path}: stream {declared.name}"
    contract = load_contract(path.parent / declared.contract)
    _check_columns(where, declared, contract)
    hidden = contract.pii_fields()
    if hidden and pseudonyms is None:
        raise CollectorError(
            f"{where}: {sorted(hidden)} are personal data, stored under a keyed hash; set "
            'SCALE_COLLECT_PII_KEY, e.g. to python -c "import secrets; print(secrets.token_hex())"'
        )
    if pseudonyms is not None:
        pseudonyms.check(contract)
    return Stream(
        name=declared.name,
        contract=contract,
        columns=declared.columns,
        types=None if declared.types is None else frozenset(declared.types),
        events=None if declared.events is None else frozenset(declared.events),
        partition_by=declared.partition_by,
    )


def _check_columns(where: str, declared: StreamDeclaration, contract: Contract) -> None:
    columns = declared.columns
    unknown = sorted(columns.keys() - contract.names)
    if unknown:
        raise CollectorError(
            f"{where}: columns {unknown} are not in contract {contract.name} {contract.version}, "
            f"which has {sorted(contract.names)}"
        )
    missing = [f.name for f in contract.fields if f.required and f.name not in columns]
    if missing:
        raise CollectorError(f"{where}: {missing} are required; say under columns where they are")
    for column, source in columns.items():
        if not _is_source(source):
            raise CollectorError(
                f"{where}: column {column}: {source!r} is no part of a message; use one of "
                f"{', '.join(FIELDS)}, a path such as properties.query below one of "
                f"{', '.join(OBJECTS)}, or collector. and one of {', '.join(FACTS)}"
            )
    if declared.partition_by is not None and declared.partition_by not in columns:
        raise CollectorError(
            f"{where}: partition_by {declared.partition_by!r} is none of {sorted(columns)}"
        )


def _is_source(source: str) -> bool:
    root, _, rest = source.partition(".")
    if root == "collector":
        return rest in FACTS
    return source in FIELDS or (root in OBJECTS and bool(rest) and ".." not in source)
