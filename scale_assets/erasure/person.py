"""One person: the ids that contracts say identify them, and whether a value is one of these."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts import Contract, DerivedId
from scale_assets.errors import ScaleError
from scale_assets.ingest.raw_ids import belongs_to, mentions
from scale_assets.ingest.suppression import Forgotten

MIN_SEARCHED = 4  # characters; a shorter id occurs in any text by chance


class ErasureError(ScaleError):
    """What cannot be erased as asked, or was not: which table or file, and the way out."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A declared feed: its contract and the two tables that it fills."""

    name: str
    contract: Contract
    table: str
    quarantine_table: str


@dataclass(frozen=True, kw_only=True)
class Person:
    """Someone to forget: by ids that are known, and by what the suppression list holds of them."""

    subject: str  # the kind, as contracts declare it
    ids: frozenset[str]  # the id as given, and its pseudonym where there is one
    feeds: Sequence[Feed]
    derived: frozenset[tuple[str, str]] = frozenset()  # name and value
    listed: Forgotten | None = None
    names: Mapping[str, str] = field(init=False)  # column to the list's name for its ids
    # What in a text can only be an id of theirs; None where their ids are too short to tell.
    pattern: re.Pattern[bytes] | None = field(init=False)

    def __post_init__(self) -> None:
        names: dict[str, str] = {}
        for feed in self.feeds:
            names |= feed.contract.subject_fields(self.subject)
            names |= {each.name: each.name for each in self._derived(feed.contract)}
        if not names:
            kinds = sorted(
                {kind for f in self.feeds for kind in f.contract.subject_fields().values()}
            )
            raise ErasureError(
                f"no contract says which field identifies a {self.subject}; declared kinds are "
                f"{kinds}. Give the field the custom property scale.subject: {self.subject}"
            )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "pattern", self._pattern())

    def _derived(self, contract: Contract) -> list[DerivedId]:
        return [each for each in contract.derived_ids if each.subject == self.subject]

    # ------------------------------------------------------------- values

    def has(self, column: str, text: str) -> bool:
        """Whether this value of an identifying column is an id of theirs."""
        name = self.names[column]
        if name == self.subject:
            return text in self.ids
        is_listed = self.listed is not None and self.listed.has(name, text)
        return is_listed or (name, text) in self.derived

    def found_in(self, column: str, values: pa.ChunkedArray | pa.Array) -> list[str]:
        """Their ids among the values of an identifying column, each once."""
        texts = pc.unique(values).drop_null().cast(pa.string()).to_pylist()
        return [text for text in texts if self.has(column, text)]

    # ------------------------------------------------------------- raw lines and text

    def owns_line(self, raw: bytes, contract: Contract) -> bool:
        """Whether a raw line is theirs, by its fields or, where it has none, by its bytes."""
        return belongs_to(
            raw,
            contract.subject_fields(),
            is_id=lambda kind, text: kind == self.subject and text in self.ids,
            or_bytes=lambda line: any(mentions(line, each) for each in self.ids),
        )

    def is_declared_otherwise(self, column: str) -> bool:
        """Whether some contract says that this column is something else than an id of theirs."""
        return any(column in feed.contract.names for feed in self.feeds)

    def _pattern(self) -> re.Pattern[bytes] | None:
        """An id of digits occurs by chance, unless a derived id's letters stand around it."""
        ids = [each for each in sorted(self.ids) if len(each) >= MIN_SEARCHED]
        patterns = [_bounded(each) for each in ids if not each.isdigit()]
        for feed in self.feeds:
            subjects = feed.contract.subject_fields(self.subject)
            for derived in self._derived(feed.contract):
                patterns += [_within(derived.template, subjects, each) for each in ids]
        unique = [each for each in dict.fromkeys(patterns) if each]
        return re.compile(b"|".join(unique)) if unique else None


def _bounded(text: str) -> bytes:
    return rb"(?<![A-Za-z0-9_])" + re.escape(text.encode()) + rb"(?![A-Za-z0-9_])"


def _within(template: str, subjects: Mapping[str, str], value: str) -> bytes:
    """The id with the template's own letters before and behind it; empty where it has none."""
    pieces = list(Formatter().parse(template))
    for at, (before, name, _, _) in enumerate(pieces):
        if name in subjects:
            behind = pieces[at + 1][0] if at + 1 < len(pieces) else ""
            if not (before or behind):
                return b""
            return (
                (b"" if before else rb"(?<![A-Za-z0-9_])")
                + re.escape(f"{before}{value}{behind}".encode())
                + (b"" if behind else rb"(?![A-Za-z0-9_])")
            )
    return b""
