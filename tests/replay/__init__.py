"""Tests of scale_assets.replay."""
