"""A served value and the lake's as SQL that can be compared: in the type that the graph was fed."""

from dataclasses import dataclass

from scale_assets.features.codec import FIXED
from scale_assets.lake.duckdb_types import literal

VERDICTS = ("equal", "different", "missing", "extra")
NUMBERS = {"bool": "BOOLEAN", "int32": "INTEGER", "int64": "BIGINT", "float32": "FLOAT"}
FRACTIONS = ("FLOAT", "DOUBLE")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One value of a vector: whether it was used, and both sides, null where there is none."""

    feature: str
    used: str
    served: str
    lake: str
    is_shown: bool  # numbers are; a text may be personal

    @property
    def verdict(self) -> str:
        """One of VERDICTS; null where the value was not used."""
        return (
            f"case when not ({self.used}) then null"
            f" when ({self.served}) is null and ({self.lake}) is null then 'equal'"
            f" when ({self.served}) is null then 'missing' when ({self.lake}) is null then 'extra'"
            f" when ({self.served}) = ({self.lake}) then 'equal' else 'different' end"
        )

    def shown(self, side: str) -> str:
        if self.is_shown:
            return f"({side})::varchar"
        return f"case when ({side}) is not null then '<' || len({side}) || ' long>' end"


def type_path(dtype: str) -> str:
    """Where a line has the inputs of one type."""
    return f"$.values.{_member(dtype)}"


def input_path(dtype: str, name: str) -> str:
    """Where a line has the value of an input, of the type that the graph was fed."""
    return f"{type_path(dtype)}.{_member(name)}"


def view_path(view: str, member: str) -> str:
    """Where a line says how a view was read."""
    return f"$.views.{_member(view)}.{member}"


def view_text(view: str, member: str) -> str:
    """SQL of that as text."""
    return f"line ->> {literal(view_path(view, member))}"


def input_column(feature: str, kind: str, dtype: str, *, served: str, lake: str) -> Column:
    """An input.

    Args:
        feature: What it is filled with.
        kind: The feature's type in the view.
        dtype: numpy's name of the type that the graph takes, "string", or "none" without a value.
        served: SQL of the line's JSON value, null where the vector has no such input.
        lake: SQL of the lake's value.
    """
    item = kind.removeprefix("list<").removesuffix(">")
    is_list = item != kind
    type_ = _type(dtype, item)
    value = lake if item != "timestamp" else _each(lake, "epoch_us({})", is_list)
    cast = f"{type_}[]" if is_list else type_
    text = f"({served}) ->> '$'"
    if dtype == "none":
        given = f"null::{cast}"
    elif type_ == "VARCHAR" and not is_list:
        given = f"nullif({text}, '')"  # what the graph takes for an unknown category
        value = f"nullif({value}::varchar, '')"
    else:
        given = f"try_cast(({served}) as {cast})"
    found = f"({value})::{cast}"
    if type_ in FRACTIONS:
        found = _each(found, "case when isnan({0}) then null else {0} end", is_list)
    return Column(
        feature=feature,
        used=f"({served}) is not null",
        served=given,
        lake=found,
        is_shown=type_ != "VARCHAR" and not is_list,
    )


def time_column(*, state: str, time: str) -> Column:
    """feature_time of the row that was used; ``state`` and ``time`` are SQL of the line's JSON."""
    return Column(
        feature="feature_time",
        used=f"({state}) is not null",
        served=f"case when ({state}) ->> '$' = 'found' then try_cast(({time}) as BIGINT) end",
        lake="epoch_us(lake.feature_time)",
        is_shown=True,
    )


def _type(dtype: str, item: str) -> str:
    """What both sides are compared as."""
    if dtype == "string" or (dtype == "none" and item not in FIXED):
        return "VARCHAR"
    wanted = NUMBERS.get(dtype, "DOUBLE")
    if item in ("float32", "float64") and wanted not in FRACTIONS:
        return "DOUBLE"  # a fraction that was cut off is another value
    return wanted


def _each(value: str, made: str, is_list: bool) -> str:
    return f"[{made.format('x')} for x in {value}]" if is_list else made.format(value)


def _member(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def paths_sql(paths: list[str]) -> str:
    """A list of paths for ``json_extract``, which reads a line once for all of them."""
    return "[" + ", ".join(literal(path) for path in paths) + "]"
