"""Features: packed values online, point-in-time joins offline, the two Feast plug-ins."""
