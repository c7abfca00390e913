"""Online serving: loads release folders, reads online features; no Dagster, no torch."""
