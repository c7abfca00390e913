"""The sites that a registration opened, oldest first. One row per registration."""

from entities import registration
from feast import FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Array, Int64, String

registration_history_table = FileSource(
    name="registration_history_table",
    path="registration_history",  # a table of the lake
    file_format=DeltaFormat(),
    timestamp_field="feature_time",
    created_timestamp_column="known_at",  # the later one wins a tie
)

registration_history = FeatureView(
    name="registration_history",
    entities=[registration],
    schema=[
        Field(name="presentation_id", dtype=String, description="Module and term."),
        Field(
            name="site_ids",
            dtype=Array(Int64),
            description="Sites opened, one entry per distinct site and day, oldest first.",
        ),
        Field(
            name="days",
            dtype=Array(Int64),
            description="Presentation day of each entry of site_ids.",
        ),
    ],
    source=registration_history_table,
)
