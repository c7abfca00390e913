"""How the events of a stream name their entity: a column, or a text made of several."""

from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import TYPE_CHECKING

from scale_assets.features.streaming.aggregates import AggregateError

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATOR = "\x1f"  # codec.entity_key's


@dataclass(frozen=True)
class JoinKey:
    """One join key; ``template`` is a text such as "{course_id}-{student_id}", or "{user_id}"."""

    name: str
    template: str

    def __post_init__(self) -> None:
        try:
            parts = self.parts
        except ValueError as error:
            raise AggregateError(f"key {self.name!r}: {self.template!r}: {error}") from error
        if not any(column for _, column in parts):
            raise AggregateError(
                f"key {self.name!r}: {self.template!r} names no column; write it in braces, "
                f"such as {{{self.name}}}"
            )

    @cached_property
    def parts(self) -> list[tuple[str, str | None]]:
        """Literal texts, each with the column that follows it."""
        return [(text, column or None) for text, column, _, _ in Formatter().parse(self.template)]

    @cached_property
    def columns(self) -> list[str]:
        return [column for _, column in self.parts if column]

    def texts(self, rows: "pa.Table") -> "pa.ChunkedArray":
        """The key of each row; null where one of its columns is."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found: list[pa.ChunkedArray | str] = []
        for text, column in self.parts:
            found += [text] if text else []
            found += [rows[column].cast(pa.string())] if column else []
        return found[0] if len(found) == 1 else pc.binary_join_element_wise(*found, "")

    def sql(self, table: str) -> str:
        """The same of rows of ``table``."""
        from scale_assets.features.stores.sqlite import quoted

        found = []
        for text, column in self.parts:
            found += ["'" + text.replace("'", "''") + "'"] if text else []
            found += [f"{table}.{quoted(column)}::varchar"] if column else []
        return "(" + " || ".join(found) + ")"


def entity_texts(keys: tuple[JoinKey, ...], rows: "pa.Table") -> "pa.ChunkedArray":
    """What ``codec.entity_key`` makes of each row's join keys."""
    import pyarrow.compute as pc

    ordered = [key.texts(rows) for key in sorted(keys, key=lambda key: key.name)]
    if len(ordered) == 1:
        return ordered[0]
    escaped = [
        pc.replace_substring(pc.replace_substring(part, "\\", "\\\\"), SEPARATOR, "\\u")
        for part in ordered
    ]
    return pc.binary_join_element_wise(*escaped, SEPARATOR)
