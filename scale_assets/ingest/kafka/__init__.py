"""Kafka topics as sources; a table's position in them is its own, never the group's."""
