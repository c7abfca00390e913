"""A presentation's catalogue and its popularity; lists are parallel. One row per presentation."""

from entities import presentation
from feast import FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Array, Int32, Int64, String

presentation_sites_table = FileSource(
    name="presentation_sites_table",
    path="presentation_sites",  # a table of the lake
    file_format=DeltaFormat(),
    timestamp_field="feature_time",
    created_timestamp_column="known_at",  # the later one wins a tie
)

presentation_sites = FeatureView(
    name="presentation_sites",
    entities=[presentation],
    schema=[
        Field(
            name="upcoming_day",
            dtype=Int32,
            description="Presentation day that begins at feature_time.",
        ),
        Field(
            name="site_ids",
            dtype=Array(Int64),
            description="All sites of the presentation, ascending.",
        ),
        Field(
            name="activity_types", dtype=Array(String), description="Kind of each site of site_ids."
        ),
        Field(
            name="week_from",
            dtype=Array(Int64),
            description="First planned week of each site; -1 for none.",
        ),
        Field(
            name="week_to",
            dtype=Array(Int64),
            description="Last planned week of each site; -1 for none.",
        ),
        Field(
            name="students_1d",
            dtype=Array(Int64),
            description="Students who opened it on the day, per site of site_ids.",
        ),
        Field(
            name="students_3d",
            dtype=Array(Int64),
            description="Students who opened it in the last 3 days, per site of site_ids.",
        ),
        Field(
            name="students_7d",
            dtype=Array(Int64),
            description="Students who opened it in the last 7 days, per site of site_ids.",
        ),
        Field(
            name="students_14d",
            dtype=Array(Int64),
            description="Students who opened it in the last 14 days, per site of site_ids.",
        ),
        Field(
            name="students_28d",
            dtype=Array(Int64),
            description="Students who opened it in the last 28 days, per site of site_ids.",
        ),
        Field(
            name="students_total",
            dtype=Array(Int64),
            description="Students who ever opened it, per site of site_ids.",
        ),
        Field(
            name="new_students_7d",
            dtype=Array(Int64),
            description="Students whose first known opening lies in the last 7 days, per site of site_ids.",
        ),
        Field(
            name="first_opened_day",
            dtype=Array(Int64),
            description="Presentation day on which anybody first opened it, per site of site_ids. -999 for nobody yet.",
        ),
    ],
    source=presentation_sites_table,
)
