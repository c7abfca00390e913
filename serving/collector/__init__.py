"""The HTTP collector: Segment's tracking API in, validated JSON lines out, answered when durable."""
