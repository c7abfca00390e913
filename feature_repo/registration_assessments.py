"""Assessments known by the end of the day. One row per registration and day."""

from datetime import timedelta

from entities import registration
from feast import FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Bool, Float64, Int32, Int64

registration_assessments_table = FileSource(
    name="registration_assessments_table",
    path="registration_assessments",  # a table of the lake
    file_format=DeltaFormat(),
    timestamp_field="feature_time",
    created_timestamp_column="known_at",  # the later one wins a tie
)

registration_assessments = FeatureView(
    name="registration_assessments",
    entities=[registration],
    ttl=timedelta(days=7),  # a row a day while active
    schema=[
        Field(name="num_submitted", dtype=Int64, description="Assessments handed in."),
        Field(name="mean_score", dtype=Float64, description="Of the scored submissions, 0 to 100."),
        Field(
            name="last_score",
            dtype=Float64,
            description="Of the latest scored submission, 0 to 100.",
        ),
        Field(name="min_score", dtype=Float64, description="Lowest so far, 0 to 100."),
        Field(
            name="num_due", dtype=Int64, description="Assessments of the presentation due by then."
        ),
        Field(name="num_missing", dtype=Int64, description="Due but not handed in."),
        Field(
            name="missing_weight",
            dtype=Float64,
            description="Their weight, percent of the final mark.",
        ),
        Field(
            name="mean_days_early",
            dtype=Float64,
            description="Due day minus day handed in; negative is late. Banked ones left out.",
        ),
        Field(
            name="days_since_last_due", dtype=Int32, description="Null before the first due day."
        ),
        Field(name="days_to_next_due", dtype=Int32, description="Null after the last due day."),
        Field(
            name="next_due_weight",
            dtype=Float64,
            description="Weight of what is due next, percent of the final mark.",
        ),
        Field(
            name="days_since_last_submission",
            dtype=Int32,
            description="Null before the first submission.",
        ),
        Field(
            name="num_banked",
            dtype=Int64,
            description="Results carried over from an earlier presentation.",
        ),
        Field(name="num_late", dtype=Int64, description="Handed in after the due day."),
        Field(
            name="num_submitted_ahead",
            dtype=Int64,
            description="Handed in before they were due, and still not due.",
        ),
        Field(
            name="is_last_due_missing",
            dtype=Bool,
            description="Nothing was handed in for the latest due day; null before the first.",
        ),
    ],
    source=registration_assessments_table,
)
