"""The drift of every feature in every window, from the table ``population``.

From the rows themselves, and not from the kept statistics: quantiles of days do not add up to those
of weeks.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scale_assets.monitoring.drift import Counts, Limits, Shift, Verdict, by_chance, shift
from scale_assets.monitoring.population import Comparison
from scale_assets.monitoring.watched import Kind, Watched

if TYPE_CHECKING:
    import duckdb

DECILES = [n / 10 for n in range(1, 10)]
MAX_BINS = 30  # of categories; rarer ones of the reference, and new ones, share one more
SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("feature", pa.string()),
        ("window_start", pa.date32()),
        ("window_end", pa.date32()),  # the first date after it
        ("num_entities", pa.int64()),  # compared: with a stratum that the reference has
        ("num_reference_entities", pa.int64()),
        ("num_values", pa.int64()),
        ("psi", pa.float64()),
        ("psi_by_chance", pa.float64()),  # of samples of one distribution, on average
        ("null_share", pa.float64()),
        ("reference_null_share", pa.float64()),
        ("psi_warn", pa.float64()),  # how much more than that, as declared when it was computed
        ("psi_fail", pa.float64()),
        ("verdict", pa.string()),
    ]
)


def drift_per_window(
    connection: "duckdb.DuckDBPyConnection",
    watched: Watched,
    comparison: Comparison,
    limits: Mapping[str, Limits],
    *,
    windows: Collection[date] | None = None,
) -> pa.Table:
    """One row per feature and window of current rows; measures are null where too few were compared.

    Too few are fewer than ``min_entities`` on either side, or values of a feature than that. A feature
    that ``limits`` lacks is measured and not judged.
    """
    _store_sides(connection, windows)
    entities = _entities(connection)
    rows = []
    for n, feature in enumerate(watched.features):
        for window, shifted in _shifts(connection, f"c{n}", feature.kind).items():
            if window in entities:
                found = _known(shifted, *entities[window], comparison.min_entities)
                row = _row(watched, feature.name, comparison, window, *entities[window], found)
                rows.append(row | _judged(row, found, limits.get(feature.name)))
    return pa.Table.from_pylist(rows, SCHEMA)


def _row(
    watched: Watched,
    feature: str,
    comparison: Comparison,
    window: date,
    num_entities: int,
    num_reference: int,
    found: Shift,
) -> dict[str, Any]:
    return {
        "view": watched.name,
        "feature": feature,
        "window_start": window,
        "window_end": window + timedelta(days=comparison.window_days),
        "num_entities": num_entities,
        "num_reference_entities": num_reference,
        "num_values": found.num_values,
        "psi": found.psi,
        "psi_by_chance": (
            None if found.psi is None else by_chance(found.num_bins, num_entities, num_reference)
        ),
        "null_share": found.null_share,
        "reference_null_share": found.reference_null_share,
    }


def _known(found: Shift, num_entities: int, num_reference: int, least: int) -> Shift:
    """What remains of a shift where too few are too little to tell."""
    if min(num_entities, num_reference) < least:
        return replace(found, psi=None, null_share=None, reference_null_share=None)
    return found if found.num_values >= least else replace(found, psi=None)


def _judged(row: Mapping[str, Any], found: Shift, limits: Limits | None) -> dict[str, Any]:
    if limits is None:
        return {"psi_warn": None, "psi_fail": None, "verdict": Verdict.NONE.value}
    excess = None if row["psi"] is None else row["psi"] - row["psi_by_chance"]
    return {
        "psi_warn": limits.psi.warn,
        "psi_fail": limits.psi.fail,
        "verdict": limits.verdict(excess, found.null_change).value,
    }


def _store_sides(connection: "duckdb.DuckDBPyConnection", windows: Collection[date] | None) -> None:
    """The view ``sides``: reference rows without a window, then current ones; some rows are both."""
    listed = ", ".join(f"date '{window}'" for window in sorted(windows or ()))
    wanted = "" if windows is None else f" and _window in [{listed}]::date[]"
    connection.execute(
        "create or replace temp view sides as"
        " select null::date as side, * from population where _is_reference"
        f" union all select _window as side, * from population where _is_current{wanted}"
    )


def _entities(connection: "duckdb.DuckDBPyConnection") -> dict[date, tuple[int, int]]:
    """By window, how many entities are compared, and with how many of the reference."""
    found = connection.execute(
        "with strata as (select distinct side, _stratum from sides where side is not null),"
        " known as (select _stratum, list(distinct _entity) as them from sides where side is null"
        " group by 1),"
        " of_reference as (select side, count(distinct each) as n from (select side, unnest(them)"
        " as each from strata join known using (_stratum)) group by 1)"
        " select s.side, count(distinct s._entity), any_value(r.n)"
        " from sides s join known k on s._stratum is not distinct from k._stratum"
        " join of_reference r on s.side = r.side where s.side is not null group by 1"
    ).fetchall()
    return {window: (num_entities, num_reference) for window, num_entities, num_reference in found}


def _shifts(connection: "duckdb.DuckDBPyConnection", column: str, kind: Kind) -> dict[date, Shift]:
    """By window, how far one feature has moved."""
    bins, num_bins = (_of_categories if kind is Kind.CATEGORY else _of_numbers)(connection, column)
    counted = connection.execute(
        f"select side, _stratum, case when {column} is null then 0 else {bins} end as bin, count(*)"
        " from sides group by all"
    ).fetchall()
    sides: dict[date | None, dict[Hashable, Counts]] = defaultdict(dict)
    for side, stratum, number, count in counted:
        counts = sides[side].setdefault(stratum, np.zeros(num_bins + 1))
        counts[number] += count
    reference = sides.pop(None, {})
    return {window: shift(found, reference) for window, found in sides.items() if window}


def _of_numbers(connection: "duckdb.DuckDBPyConnection", column: str) -> tuple[str, int]:
    """SQL for the bin of a value, 1 or more, and how many there are: up to each of the deciles."""
    (found,) = connection.execute(
        f"select quantile_disc({column}, {DECILES}) from sides where side is null"
    ).fetchall()[0]
    edges = sorted(set(found or ()))
    cases = "".join(f" when {column} <= {edge!r} then {n}" for n, edge in enumerate(edges, 1))
    return (f"case{cases} else {len(edges) + 1} end" if edges else "1"), len(edges) + 1


def _of_categories(connection: "duckdb.DuckDBPyConnection", column: str) -> tuple[str, int]:
    """A bin for each of the reference's most frequent categories, and one for all others."""
    found = connection.execute(
        f"select {column} from sides where side is null and {column} is not null"
        f" group by 1 order by count(*) desc, 1 limit {MAX_BINS}"
    ).fetchall()
    names = [each for (each,) in found]
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    position = f"list_position([{listed}]::varchar[], {column})"
    return f"coalesce({position}, {len(names) + 1})", len(names) + 1
