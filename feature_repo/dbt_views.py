"""Feature views as dbt models declare them, in `meta: feature_view` beside their columns.

scale_assets/features/marts.py reads the same files by the same rule without Feast, which takes too
long to import while definitions load; materializing `feature_registry` compares the two.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from feast import Entity, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import (
    Array,
    Bool,
    Bytes,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)

TYPES = {
    "boolean": Bool,
    "integer": Int32,
    "int": Int32,
    "bigint": Int64,
    "float": Float32,
    "real": Float32,
    "double": Float64,
    "varchar": String,
    "string": String,
    "text": String,
    "blob": Bytes,
    "binary": Bytes,
    "timestamptz": UnixTimestamp,
    "timestamp with time zone": UnixTimestamp,
}


def dbt_views(project: str, *, entities: list[Entity]) -> dict[str, FeatureView]:
    """The views that the models of a dbt project declare, by name; a path is from this folder."""
    folder = Path(__file__).parent / project
    settings = yaml.safe_load((folder / "dbt_project.yml").read_text())
    by_name = {entity.name: entity for entity in entities}
    views: dict[str, FeatureView] = {}
    for models in settings.get("model-paths", ["models"]):
        for path in sorted((folder / models).rglob("*.y*ml")):
            for model in (yaml.safe_load(path.read_text()) or {}).get("models", ()):
                declared = model.get("config", {}).get("meta", {}).get("feature_view")
                if declared:
                    views[model["name"]] = _view(model, declared, by_name)
    return views


def _view(
    model: dict[str, Any], declared: dict[str, Any], by_name: dict[str, Entity]
) -> FeatureView:
    """One view over the lake table that the model is published as."""
    entity, feature_time = by_name[declared["entity"]], declared["feature_time"]
    known_at = declared.get("known_at", "")
    left_out = {entity.join_key, feature_time, known_at, *declared.get("exclude", ())}
    return FeatureView(
        name=model["name"],
        entities=[entity],
        ttl=timedelta(**declared.get("ttl", {})),
        schema=[
            Field(
                name=column["name"],
                dtype=_feast_type(column["data_type"]),
                description=column.get("description", ""),
            )
            for column in model["columns"]
            if column["name"] not in left_out
        ],
        source=FileSource(
            name=f"{model['name']}_table",
            path=model["name"],  # a table of the lake
            file_format=DeltaFormat(),
            timestamp_field=feature_time,
            created_timestamp_column=known_at,  # the later one wins a tie
        ),
        description=model.get("description", ""),
        tags={"dbt.model": model["name"]},
    )


def _feast_type(data_type: str) -> FeastType:
    """`bigint[]` (DuckDB) and `array<bigint>` (Spark) are lists."""
    spelled = data_type.lower().strip()
    if spelled.endswith("[]"):
        return Array(_feast_type(spelled[:-2]))
    if spelled.startswith("array<"):
        return Array(_feast_type(spelled[6:-1]))
    return TYPES[spelled.split("(")[0].strip()]
