"""Statistics of every feature on every date, in DuckDB.

No number is one person's own. With fewer than twice ``MIN_GROUP`` values there are only counts; the
least and the greatest value are those that ``MIN_GROUP`` entities are at or beyond, quantiles stay
within them, and a category is named only where as many entities have it.
"""

from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.monitoring.population import dates_sql
from scale_assets.monitoring.watched import Feature, Kind, Watched

if TYPE_CHECKING:
    import duckdb

MIN_GROUP = 10
MAX_CATEGORIES = 20
QUANTILES = {
    "p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99,
}  # fmt: skip
SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("feature", pa.string()),
        ("feature_date", pa.date32()),
        ("kind", pa.string()),
        ("num_rows", pa.int64()),  # entities with a row on the date
        ("num_nulls", pa.int64()),
        ("num_distinct", pa.int64()),
        ("mean", pa.float64()),
        ("std", pa.float64()),
        ("min", pa.float64()),
        *((name, pa.float64()) for name in QUANTILES),
        ("max", pa.float64()),
        ("categories", pa.list_(pa.string())),  # most frequent first
        ("category_rows", pa.list_(pa.int64())),
    ]
)


def statistics(
    connection: "duckdb.DuckDBPyConnection",
    watched: Watched,
    *,
    days: Collection[date] | None = None,
) -> pa.Table:
    """One row per feature and date of the table ``population``; with ``days``, of these dates.

    Counts are exact, of distinct values too. Quantiles are exact, with linear interpolation.
    """
    where = "true" if days is None else f"_day in {dates_sql(days)}"
    parts = [
        connection.sql(_sql(feature, f"c{n}", where)).to_arrow_table()
        for n, feature in enumerate(watched.features)
    ]
    if not parts:
        return SCHEMA.empty_table()
    found = pa.concat_tables(parts)
    named = found.append_column("view", pa.array([watched.name] * len(found), pa.string()))
    return named.select(SCHEMA.names).cast(SCHEMA)


def _sql(feature: Feature, column: str, where: str) -> str:
    is_category = feature.kind is Kind.CATEGORY
    name = feature.name.replace("'", "''")
    measured = _of_categories(column, where) if is_category else _of_numbers(column, where)
    return (
        f"select '{name}' as feature, _day as feature_date, '{feature.kind}' as kind, *"
        f" exclude (_day) from ({measured}) order by _day"
    )


def _of_numbers(column: str, where: str) -> str:
    """Each value stands alone in its subquery, so that memory holds one feature at a time."""
    fractions = list(QUANTILES.values())
    shown = f"count({column}) >= {2 * MIN_GROUP}"
    within = ", ".join(
        f"case when min is not null then greatest(least(_at[{n}], max), min) end as {name}"
        for n, name in enumerate(QUANTILES, 1)
    )
    return (
        f"select _day, num_rows, num_nulls, num_distinct, mean, std, min, {within}, max,"
        " null::varchar[] as categories, null::bigint[] as category_rows"
        f" from (select _day, count(*) as num_rows, count(*) - count({column}) as num_nulls,"
        f" count(distinct {column}) as num_distinct,"
        # In order, so that the last digit does not depend on how threads shared the rows.
        f" case when {shown} then avg({column} order by {column}) end as mean,"
        f" case when {shown} then stddev_samp({column} order by {column}) end as std,"
        f" case when {shown} then min({column}, {MIN_GROUP})[{MIN_GROUP}] end as min,"
        f" case when {shown} then max({column}, {MIN_GROUP})[{MIN_GROUP}] end as max,"
        f" quantile_cont({column}, {fractions}) as _at"
        f" from population where {where} group by _day)"
    )


def _of_categories(column: str, where: str) -> str:
    numbers = ", ".join(f"null::double as {name}" for name in ("mean", "std", "min", *QUANTILES))
    kept = f"filter ({column} is not null and n >= {MIN_GROUP} and _rank <= {MAX_CATEGORIES})"
    return (
        "select _day, sum(n)::bigint as num_rows,"
        f" coalesce(sum(n) filter ({column} is null), 0)::bigint as num_nulls,"
        f" count({column}) as num_distinct, {numbers}, null::double as max,"
        f" coalesce(list({column} order by _rank) {kept}, []) as categories,"
        f" coalesce(list(n order by _rank) {kept}, []) as category_rows"
        f" from (select _day, {column}, count(*) as n, row_number() over"
        f" (partition by _day order by {column} is null, count(*) desc, {column}) as _rank"
        f" from population where {where} group by _day, {column}) group by _day"
    )
