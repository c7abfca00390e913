"""The YAML vocabulary: one component class per file, named by `type: scale_assets.components.X`."""

from scale_assets.components.change_feed import ChangeFeed
from scale_assets.components.database_capture import DatabaseCapture
from scale_assets.components.event_stream import EventStream
from scale_assets.components.feature_views import FeatureViews
from scale_assets.components.monitor import Monitor
from scale_assets.components.release import Release
from scale_assets.components.snapshot import Snapshot
from scale_assets.components.spark_table import SparkTable
from scale_assets.components.trained_model import TrainedModel
from scale_assets.components.training_set import TrainingSet
from scale_assets.components.warehouse_models import WarehouseModels

__all__ = [
    "ChangeFeed",
    "DatabaseCapture",
    "EventStream",
    "FeatureViews",
    "Monitor",
    "Release",
    "Snapshot",
    "SparkTable",
    "TrainedModel",
    "TrainingSet",
    "WarehouseModels",
]
