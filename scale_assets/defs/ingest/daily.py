"""Once a day everything that arrived is taken in, also where the arrival sensors are off."""

import dagster as dg

daily_ingest = dg.ScheduleDefinition(
    name="daily_ingest",
    target=dg.AssetSelection.tag("scale/reads", "feed"),
    cron_schedule="15 0 * * *",
    execution_timezone="UTC",
    description="Every stream, change feed and snapshot looks for input; what is downstream follows by itself.",
)
