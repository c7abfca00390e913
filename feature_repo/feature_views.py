"""The feature views: of a table, beside its columns in dbt_project/models/marts/<name>.yml; of a stream, in streams.yml."""

from dbt_views import dbt_views
from entities import presentation, registration
from stream_views import stream_views

views = dbt_views("../dbt_project", entities=[presentation, registration])
streams = stream_views("streams.yml", entities=[registration])
globals().update(views | streams)  # Feast finds views among the names of a module
