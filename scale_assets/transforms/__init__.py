"""PySpark: interaction counts, sessions, MLlib baselines. No Dagster here."""
