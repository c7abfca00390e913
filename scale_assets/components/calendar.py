"""The dates that a partitioned table can have, declared once per table in YAML."""

from datetime import date, timedelta

import dagster as dg
from pydantic import Field, field_validator


class Calendar(dg.Resolvable, dg.Model):
    """Days in UTC; tables that feed each other declare the same ones."""

    start: str = Field(description="First day.", examples=["2012-01-01"])
    end: str | None = Field(
        default=None, description="Last day; left out, the calendar grows with the clock."
    )

    @field_validator("start", "end")
    @classmethod
    def _is_a_day(cls, value: str | None) -> str | None:
        return value if value is None else date.fromisoformat(value).isoformat()

    def partitions(self) -> dg.DailyPartitionsDefinition:
        end = None
        if self.end is not None:
            end = (date.fromisoformat(self.end) + timedelta(days=1)).isoformat()
        return dg.DailyPartitionsDefinition(start_date=self.start, end_date=end, timezone="UTC")
