"""How active a registration has been lately. One row per registration and day."""

from datetime import timedelta

from entities import registration
from feast import FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Float64, Int32, Int64

registration_activity_table = FileSource(
    name="registration_activity_table",
    path="registration_activity",  # a table of the lake
    file_format=DeltaFormat(),
    timestamp_field="feature_time",
    created_timestamp_column="known_at",  # the later one wins a tie
)

registration_activity = FeatureView(
    name="registration_activity",
    entities=[registration],
    ttl=timedelta(days=7),  # a row a day while active
    schema=[
        Field(
            name="presentation_day",
            dtype=Int32,
            description="Days since the presentation's start; day 0 is the first.",
        ),
        Field(name="clicks_1d", dtype=Int64, description="Clicks on the day."),
        Field(name="clicks_7d", dtype=Int64, description="Clicks in the last 7 days."),
        Field(
            name="clicks_prev_7d",
            dtype=Int64,
            description="Clicks in the 7 days before the last 7.",
        ),
        Field(name="clicks_14d", dtype=Int64, description="Clicks in the last 14 days."),
        Field(name="clicks_28d", dtype=Int64, description="Clicks in the last 28 days."),
        Field(name="clicks_total", dtype=Int64, description="Clicks so far."),
        Field(
            name="active_days_7d", dtype=Int64, description="Days with a click among the last 7."
        ),
        Field(
            name="active_days_14d", dtype=Int64, description="Days with a click among the last 14."
        ),
        Field(
            name="active_days_28d", dtype=Int64, description="Days with a click among the last 28."
        ),
        Field(name="active_days_total", dtype=Int64, description="Days with a click so far."),
        Field(
            name="sites_7d", dtype=Int64, description="Different sites opened in the last 7 days."
        ),
        Field(
            name="sites_14d", dtype=Int64, description="Different sites opened in the last 14 days."
        ),
        Field(
            name="sites_28d", dtype=Int64, description="Different sites opened in the last 28 days."
        ),
        Field(name="sites_total", dtype=Int64, description="Different sites opened so far."),
        Field(
            name="sessions_7d", dtype=Int64, description="Sessions that started in the last 7 days."
        ),
        Field(
            name="clicks_28d_homepage",
            dtype=Int64,
            description="Clicks on the home page in the last 28 days.",
        ),
        Field(
            name="clicks_28d_forum",
            dtype=Int64,
            description="Clicks on forums and live meetings in the last 28 days.",
        ),
        Field(
            name="clicks_28d_content",
            dtype=Int64,
            description="Clicks on course text in the last 28 days.",
        ),
        Field(
            name="clicks_28d_quiz",
            dtype=Int64,
            description="Clicks on quizzes and questionnaires in the last 28 days.",
        ),
        Field(
            name="clicks_28d_resource",
            dtype=Int64,
            description="Clicks on files in the last 28 days.",
        ),
        Field(
            name="clicks_28d_subpage",
            dtype=Int64,
            description="Clicks on subpages in the last 28 days.",
        ),
        Field(
            name="clicks_28d_url", dtype=Int64, description="Clicks on links in the last 28 days."
        ),
        Field(
            name="clicks_28d_other",
            dtype=Int64,
            description="Clicks on other sites in the last 28 days.",
        ),
        Field(
            name="days_since_last_click", dtype=Int32, description="Null before the first click."
        ),
        Field(
            name="days_since_first_click", dtype=Int32, description="Null before the first click."
        ),
        Field(
            name="clicks_trend_7d",
            dtype=Float64,
            description="log(1 + clicks_7d) - log(1 + clicks_prev_7d).",
        ),
        Field(
            name="clicks_7d_vs_presentation",
            dtype=Float64,
            description="log(1 + clicks_7d), minus its mean over the presentation's registrations.",
        ),
        Field(
            name="clicks_28d_vs_presentation",
            dtype=Float64,
            description="log(1 + clicks_28d), minus its mean over the presentation's registrations.",
        ),
        Field(
            name="active_days_7d_vs_presentation",
            dtype=Float64,
            description="active_days_7d, minus its mean over the presentation's registrations.",
        ),
    ],
    source=registration_activity_table,
)
