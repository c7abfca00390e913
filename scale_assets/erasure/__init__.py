"""Removes one person from everything that the pipeline stored, and proves it."""
