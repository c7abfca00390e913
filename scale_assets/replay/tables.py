"""The six small tables in our terms: identifiers as int64, days as days since 1970-01-01."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from scale_assets.replay.source import Input, InputError

EPOCH = date(1970, 1, 1)
TERM_START_MONTHS = {"B": 2, "J": 10}
MISSING_VALUES = ["", "?"]  # the archive's mirrors write a missing value either way

TEXT, WHOLE, REAL = pa.string(), pa.int64(), pa.float64()
KEY = {"code_module": TEXT, "code_presentation": TEXT}
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "courses": KEY | {"module_presentation_length": WHOLE},
    "vle": KEY | {"id_site": WHOLE, "activity_type": TEXT, "week_from": WHOLE, "week_to": WHOLE},
    "assessments": KEY
    | {"id_assessment": WHOLE, "assessment_type": TEXT, "date": WHOLE, "weight": REAL},
    "studentRegistration": KEY
    | {"id_student": WHOLE, "date_registration": WHOLE, "date_unregistration": WHOLE},
    "studentInfo": KEY
    | {
        "id_student": WHOLE,
        "gender": TEXT,
        "region": TEXT,
        "highest_education": TEXT,
        "imd_band": TEXT,
        "age_band": TEXT,
        "num_of_prev_attempts": WHOLE,
        "studied_credits": WHOLE,
        "disability": TEXT,
        "final_result": TEXT,
    },
    "studentAssessment": {
        "id_assessment": WHOLE,
        "id_student": WHOLE,
        "date_submitted": WHOLE,
        "is_banked": WHOLE,
        "score": REAL,
    },
}
REQUIRED = {
    "code_module",
    "code_presentation",
    "module_presentation_length",
    "id_site",
    "id_assessment",
    "id_student",
    "date_submitted",
    "is_banked",
}


@dataclass(frozen=True)
class Tables:
    """The small tables of the chosen presentations, in source order.

    Columns that end in ``_day`` count days since 1970-01-01 (int64).
    """

    known_ids: pa.Array  # of every presentation in the input, chosen or not
    presentations: pa.Table  # presentation_id, module_id, term, start_day, length_days; sorted
    sites: pa.Table
    assessments: pa.Table
    registrations: pa.Table
    students: pa.Table
    submissions: pa.Table


def load_tables(
    source: Input,
    *,
    modules: Sequence[str] | None = None,
    presentations: Sequence[str] | None = None,
) -> Tables:
    """Read the small tables of the chosen modules ("FFF") and presentations ("FFF-2013B").

    Raises:
        InputError: A table, column or value is not what OULAD has, or the choice is empty.

    """
    courses = _presentations(source)
    known_ids = courses["presentation_id"].combine_chunks()
    chosen = _choose(courses, modules=modules, presentations=presentations)
    sites, assessments, registrations, students = (
        _of(chosen, known_ids, _read(source, name), name=name)
        for name in ("vle", "assessments", "studentRegistration", "studentInfo")
    )
    registrations = _on_calendar(
        chosen,
        registrations,
        date_registration="registered_day",
        date_unregistration="unregistered_day",
    )
    assessments = _on_calendar(chosen, assessments, date="due_day")
    return Tables(
        known_ids=known_ids,
        presentations=chosen,
        sites=_rename(sites, id_site="site_id"),
        assessments=_rename(assessments, id_assessment="assessment_id"),
        registrations=_rename(registrations, id_student="student_id"),
        students=_rename(students, id_student="student_id"),
        submissions=_submissions(source, chosen),
    )


def to_whole(values: pa.ChunkedArray | pa.Array, *, name: str) -> pa.ChunkedArray | pa.Array:
    """Cast doubles to int64; a fraction or NaN is refused by the column's name."""
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(f"{name} must hold whole numbers: {error}") from error


def presentation_ids(table: pa.Table | pa.RecordBatch) -> pa.ChunkedArray | pa.Array:
    """The module and its term in one identifier, "FFF-2013B"."""
    return pc.binary_join_element_wise(
        table.column("code_module"), table.column("code_presentation"), "-"
    )


def read_csv_options(columns: Mapping[str, pa.DataType]) -> pa_csv.ConvertOptions:
    """Numbers are read as doubles and cast later, so that "11391" and "11391.0" both pass."""
    return pa_csv.ConvertOptions(
        column_types={name: TEXT if kind == TEXT else REAL for name, kind in columns.items()},
        include_columns=list(columns),
        null_values=MISSING_VALUES,
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )


def _read(source: Input, name: str) -> pa.Table:
    path, columns = source.table_path(name), COLUMNS[name]
    try:
        if source.layout == "csv":
            table = pa_csv.read_csv(path, convert_options=read_csv_options(columns))
        else:
            table = pq.ParquetFile(path).read(columns=list(columns)).select(list(columns))
    except (pa.ArrowInvalid, pa.ArrowKeyError, KeyError) as error:
        raise InputError(f"{path.name} cannot be read: {error}; expected {columns}") from error
    typed = {}
    for column, kind in columns.items():
        values = table.column(column)
        where = f"{path.name}, column {column},"
        typed[column] = to_whole(values, name=where) if kind == WHOLE else values.cast(kind)
        if kind == REAL and pc.any(pc.is_inf(typed[column])).as_py():
            raise InputError(f"{where} has an infinite number; give a finite one or none")
        if column in REQUIRED and values.null_count:
            row = pc.index(pc.is_null(values), True).as_py()
            raise InputError(f"{where} is missing in row {row}; every row needs one")
    return pa.table(typed)


def _presentations(source: Input) -> pa.Table:
    courses = _read(source, "courses")
    for module in courses["code_module"].to_pylist():
        if not re.fullmatch(r"\w+", module):
            raise InputError(f'courses, code_module is "{module}"; only letters, digits and _ pass')
    starts = [(_term_start(term) - EPOCH).days for term in courses["code_presentation"].to_pylist()]
    table = pa.table(
        {
            "presentation_id": presentation_ids(courses),
            "module_id": courses["code_module"],
            "term": courses["code_presentation"],
            "start_day": pa.array(starts, pa.int64()),
            "length_days": courses["module_presentation_length"],
        }
    )
    return table.sort_by("presentation_id")


def _term_start(term: str) -> date:
    """Presentations start on 1 February (B) or 1 October (J) of the code's year."""
    if not re.fullmatch(r"[0-9]{4}[BJ]", term):
        raise InputError(f'courses, code_presentation is "{term}"; expected e.g. "2013B", "2013J"')
    return date(int(term[:4]), TERM_START_MONTHS[term[4]], 1)


def _choose(
    table: pa.Table, *, modules: Sequence[str] | None, presentations: Sequence[str] | None
) -> pa.Table:
    for column, wanted in (("module_id", modules), ("presentation_id", presentations)):
        if wanted is None:
            continue
        known = sorted(set(table[column].to_pylist()))
        if unknown := sorted(set(wanted) - set(known)):
            raise InputError(f"no {column} {', '.join(unknown)} here; there are {', '.join(known)}")
        table = table.filter(pc.is_in(table[column], pa.array(list(wanted), pa.string())))
    if not table.num_rows:
        raise InputError("no presentation is left; choose at least one module and presentation")
    return table


def refuse_unknown(ids: pa.ChunkedArray | pa.Array, known_ids: pa.Array, *, name: str) -> None:
    """Rows of a presentation that courses lacks would vanish, so they are an error."""
    if unknown := pc.unique(ids.filter(pc.invert(pc.is_in(ids, known_ids)))).to_pylist():
        raise InputError(f"{name} has rows of {', '.join(unknown)}, which courses does not list")


def _of(chosen: pa.Table, known_ids: pa.Array, table: pa.Table, *, name: str) -> pa.Table:
    """The rows of the chosen presentations, with presentation_id in place of its two halves."""
    ids = presentation_ids(table)
    refuse_unknown(ids, known_ids, name=name)
    table = table.drop_columns(list(KEY)).add_column(0, "presentation_id", ids)
    return table.filter(pc.is_in(ids, chosen["presentation_id"].combine_chunks()))


def _on_calendar(chosen: pa.Table, table: pa.Table, **columns: str) -> pa.Table:
    """Replace days from the presentation's start by days since 1970-01-01, under new names."""
    starts = look_up(table["presentation_id"], chosen, "presentation_id", "start_day")
    for old, new in columns.items():
        table = table.append_column(new, pc.add(table[old], starts)).drop_columns([old])
    return table


def _submissions(source: Input, chosen: pa.Table) -> pa.Table:
    """Submissions with presentation_id, event_day and their row number in that presentation."""
    table = _read(source, "studentAssessment")
    assessments = _read(source, "assessments")
    owners = assessments.append_column("presentation_id", presentation_ids(assessments))
    ids = look_up(table["id_assessment"], owners, "id_assessment", "presentation_id")
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        raise InputError(
            f"studentAssessment row {row}: id_assessment {table['id_assessment'][row]} is not in "
            "assessments; give both tables of one release"
        )
    table = table.add_column(0, "presentation_id", ids)
    table = table.filter(pc.is_in(ids, chosen["presentation_id"].combine_chunks()))
    order = pa.array(ranks_within(rows_of(table["presentation_id"], chosen)))
    table = _on_calendar(chosen, table, date_submitted="event_day")
    table = table.append_column("event_order", order)
    return _rename(table, id_assessment="assessment_id", id_student="student_id")


def rows_of(ids: pa.ChunkedArray | pa.Array, presentations: pa.Table) -> np.ndarray:
    """For each identifier, its row number in Tables.presentations, which must have it."""
    found = pc.index_in(ids, presentations["presentation_id"].combine_chunks())
    assert found.null_count == 0, "filter by presentation first"
    rows: np.ndarray = found.to_numpy().astype(np.int64)
    return rows


def ranks_within(groups: np.ndarray) -> np.ndarray:
    """For each row, how many earlier rows are of the same group."""
    if len(groups) and (groups == groups[0]).all():
        return np.arange(len(groups))
    order = np.argsort(groups, kind="stable")
    in_order = groups[order]
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.searchsorted(in_order, in_order)
    return ranks


def look_up(keys: pa.ChunkedArray, table: pa.Table, key: str, value: str) -> pa.ChunkedArray:
    """The table's value for each key; null where the table lacks the key."""
    return table[value].take(pc.index_in(keys, table[key].combine_chunks()))


def _rename(table: pa.Table, **columns: str) -> pa.Table:
    return table.rename_columns([columns.get(name, name) for name in table.column_names])
