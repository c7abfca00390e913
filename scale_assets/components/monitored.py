"""What a monitor's YAML says besides its name: rows, thresholds, alignment, a table."""

from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg
from pydantic import Field, field_validator, model_validator

from scale_assets.components.feature_views import Clock
from scale_assets.errors import ScaleError
from scale_assets.features.repo import ViewDeclaration


class MonitorError(ScaleError):
    """A monitor that names what is not there, or declares too little."""


class Rows(dg.Resolvable, dg.Model):
    """Some rows of a table, by their date (UTC) and a condition."""

    start: str | None = Field(default=None, description="First date.", examples=["2013-02-01"])
    end: str | None = Field(default=None, description="The date before which they end.")
    where: str | None = Field(
        default=None,
        description="SQL condition over the table's columns; of a view over a stream, over its "
        "join key and features.",
        examples=["cohort = 'spring'"],
    )

    @field_validator("start", "end")
    @classmethod
    def _is_a_date(cls, value: str | None) -> str | None:
        return value if value is None else date.fromisoformat(value).isoformat()


class Threshold(dg.Resolvable, dg.Model):
    """From which value on a measure is told."""

    warn: float = Field(gt=0, description="The check fails from here on.")
    fail: float = Field(gt=0, description="With `severity: error`, the run does from here on.")

    @model_validator(mode="after")
    def _in_order(self) -> "Threshold":
        if self.warn > self.fail:
            raise ValueError(f"warn ({self.warn:g}) must be at most fail ({self.fail:g})")
        return self


class Alignment(dg.Resolvable, dg.Model):
    """What moves by itself, such as the week of a course: only equal weeks are compared."""

    column: str = Field(description="Numeric column of the table; a table without it has none.")
    width: float = Field(gt=0, description="Values within a multiple of it count as equal.")


class WatchedTable(dg.Resolvable, dg.Model):
    """A table of the lake, every column of which is a feature but those named here."""

    name: str = Field(description="Its name in the lake.", examples=["daily_activity"])
    entity: list[str] = Field(min_length=1, description="Columns that say whose a row is.")
    time: str = Field(description="Column of the instant or date that a row describes, UTC.")


@dataclass(frozen=True)
class Target:
    """One thing to watch: a view, or a table."""

    name: str
    table: str
    view: ViewDeclaration | None
    clock: Clock | None
    max_age: timedelta | None
