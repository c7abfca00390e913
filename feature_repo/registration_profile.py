"""What the university knows of the student. One row per registration and change."""

from entities import registration
from feast import FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Int32, Int64, String

registration_profile_table = FileSource(
    name="registration_profile_table",
    path="registration_profile",  # a table of the lake
    file_format=DeltaFormat(),
    timestamp_field="feature_time",
    created_timestamp_column="known_at",  # the later one wins a tie
)

registration_profile = FeatureView(
    name="registration_profile",
    entities=[registration],
    schema=[
        Field(name="module_id", dtype=String, description="The module."),
        Field(name="gender", dtype=String, description="As registered."),
        Field(name="region", dtype=String, description="Region of residence."),
        Field(name="highest_education", dtype=String, description="On entry."),
        Field(
            name="imd_band",
            dtype=String,
            description="Deprivation band of the residence; null when unknown.",
        ),
        Field(name="age_band", dtype=String, description="Age band."),
        Field(
            name="num_of_prev_attempts", dtype=Int64, description="Earlier attempts at this module."
        ),
        Field(name="studied_credits", dtype=Int64, description="Credits studied in all."),
        Field(name="disability", dtype=String, description="Y or N."),
        Field(
            name="registered_day",
            dtype=Int32,
            description="Day of registration, from the presentation's start.",
        ),
    ],
    source=registration_profile_table,
)
