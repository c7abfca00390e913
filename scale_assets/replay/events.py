"""Clicks, submissions and catalogue snapshots as JSON lines."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.replay.clicks import Clicks
from scale_assets.replay.lines import (
    json_date,
    json_flag,
    json_midnight,
    json_objects,
    json_plain_text,
    json_real,
    json_text,
    json_whole,
)
from scale_assets.replay.tables import EPOCH, Tables

ORDER_DIGITS = 7  # pads event_id, so that it sorts as text up to ten million events


def click_lines(clicks: Clicks, *, presentations: pa.Table) -> pa.Array:
    """One line per click record of one day."""
    day = EPOCH + timedelta(days=int(clicks.event_day[0]))
    ids = presentations["presentation_id"].combine_chunks().take(pa.array(clicks.presentation))
    order = pa.array(clicks.event_order).cast(pa.string())
    padded = pc.utf8_lpad(order, ORDER_DIGITS, "0")
    return json_objects(
        {
            "event_id": json_plain_text(pc.binary_join_element_wise(ids, padded, "-")),
            "event_time": pa.scalar(f'"{day}T00:00:00Z"'),
            "received_at": pa.scalar(f'"{day + timedelta(days=1)}T00:00:00Z"'),
            "presentation_id": json_plain_text(ids),
            "student_id": json_whole(pa.array(clicks.student_id)),
            "site_id": json_whole(pa.array(clicks.site_id)),
            "num_clicks": json_whole(pa.array(clicks.num_clicks)),
            "event_order": order,
        },
        end="\n",
    )


def submission_lines(part: pa.Table) -> pa.Array:
    """One line per submission."""
    ids = part["presentation_id"].combine_chunks()
    order = json_whole(part["event_order"])
    padded = pc.utf8_lpad(order, ORDER_DIGITS, "0")
    return json_objects(
        {
            "event_id": json_plain_text(pc.binary_join_element_wise(ids, padded, "-S")),
            "event_time": json_midnight(part["event_day"]),
            "received_at": json_midnight(pc.add(part["event_day"], 1)),
            "presentation_id": json_plain_text(ids),
            "student_id": json_whole(part["student_id"]),
            "assessment_id": json_whole(part["assessment_id"]),
            "score": json_real(part["score"]),
            "is_banked": json_flag(part["is_banked"]),
            "event_order": order,
        },
        end="\n",
    )


def site_lines(tables: Tables, known: pa.Array) -> pa.Array:
    """The sites of the known presentations, in source order."""
    sites = _of(tables.sites, known)
    return json_objects(
        {
            "site_id": json_whole(sites["site_id"]),
            "presentation_id": json_text(sites["presentation_id"]),
            "activity_type": json_text(sites["activity_type"]),
            "week_from": json_whole(sites["week_from"]),
            "week_to": json_whole(sites["week_to"]),
        },
        end="\n",
    )


def assessment_lines(tables: Tables, known: pa.Array) -> pa.Array:
    """The assessments of the known presentations, in source order."""
    assessments = _of(tables.assessments, known)
    return json_objects(
        {
            "assessment_id": json_whole(assessments["assessment_id"]),
            "presentation_id": json_text(assessments["presentation_id"]),
            "assessment_type": json_text(assessments["assessment_type"]),
            "due_on": json_date(assessments["due_day"]),
            "weight": json_real(assessments["weight"]),
        },
        end="\n",
    )


def presentation_lines(tables: Tables, known: pa.Array) -> pa.Array:
    """The known presentations, by identifier."""
    presentations = _of(tables.presentations, known)
    return json_objects(
        {
            "presentation_id": json_text(presentations["presentation_id"]),
            "module_id": json_text(presentations["module_id"]),
            "term": json_text(presentations["term"]),
            "starts_on": json_date(presentations["start_day"]),
            "length_days": json_whole(presentations["length_days"]),
        },
        end="\n",
    )


def _of(table: pa.Table, known: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table["presentation_id"], known))
