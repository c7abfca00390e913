"""The framework and the declared reference pipeline."""
