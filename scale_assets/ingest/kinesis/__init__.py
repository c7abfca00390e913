"""Kinesis streams as sources; where a table stands in each shard is told by its own commits."""
