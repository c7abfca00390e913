"""Windowed aggregates that follow their events within seconds, and equal the lake's to the bit."""
