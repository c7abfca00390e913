"""The world that serves."""

from pathlib import Path

import pytest

from tests.features.skew.world import World, world_in


@pytest.fixture
def world(tmp_path: Path) -> World:
    return world_in(tmp_path)
