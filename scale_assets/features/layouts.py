"""What the online store keeps per entity and view: packed values, or a state over a stream's events."""

from scale_assets.features.codec import Layout
from scale_assets.features.streaming.states import StateLayout

AnyLayout = Layout | StateLayout


def parse_layout(text: str) -> AnyLayout:
    """The layout that a store recorded by its ``text``."""
    return StateLayout.parse(text) if text.startswith('[{"name":') else Layout.parse(text)
