"""The feature views: each stands beside its table's columns, in dbt_project/models/marts/<name>.yml."""

from dbt_views import dbt_views
from entities import presentation, registration

views = dbt_views("../dbt_project", entities=[presentation, registration])
globals().update(views)  # Feast finds views among the names of a module
