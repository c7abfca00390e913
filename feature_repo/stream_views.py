"""Feature views over streams, as streams.yml declares them.

scale_assets/features/streaming/declared.py reads the same file by the same rule without Feast.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from feast import Entity, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Array, Int64

TAG = "scale.stream"  # tells the two stores of ours what to keep and to compute


def stream_views(file: str, *, entities: list[Entity]) -> dict[str, FeatureView]:
    """The views of a file, by name; its path is from this folder."""
    by_name = {entity.name: entity for entity in entities}
    path = Path(__file__).parent / file
    return {
        stream["name"]: _view(stream, by_name)
        for stream in yaml.safe_load(path.read_text())["streams"]
    }


def _view(stream: dict[str, Any], by_name: dict[str, Entity]) -> FeatureView:
    entity = by_name[stream["entity"]]
    declared = {key: value for key, value in stream.items() if key != "description"}
    return FeatureView(
        name=stream["name"],
        entities=[entity],
        ttl=timedelta(0),  # counts go down by themselves as events leave their windows
        schema=[
            Field(
                name=feature["name"],
                dtype=Array(Int64) if "last" in feature else Int64,
                description=feature.get("description", ""),
            )
            for feature in stream["features"]
        ],
        source=FileSource(
            name=f"{stream['name']}_events",
            path=stream["table"],  # of the lake
            file_format=DeltaFormat(),
            timestamp_field=stream["event_time"],
            created_timestamp_column=stream["received_at"],
        ),
        description=stream.get("description", ""),
        tags={TAG: json.dumps({**declared, "join_key": entity.join_key})},
    )
