"""Typed handles that assets ask for by parameter name."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from scale_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from pyspark.sql import SparkSession

    from scale_assets.lake import Lake


class SettingsResource(dg.ConfigurableResource):
    """The folders and engines of this deployment."""

    @cached_property
    def values(self) -> Settings:
        return load_settings()


class LakeResource(dg.ConfigurableResource):
    """The Delta tables under one root."""

    root: str

    def lake(self) -> "Lake":
        from scale_assets.lake import Lake

        return Lake(self.root, s3=load_settings().s3 if "://" in self.root else None)


class SparkResource(dg.ConfigurableResource):
    """The one Spark session of a process, shared by every asset of a run."""

    master: str
    driver_memory: str
    scratch_dir: str

    def session(self) -> "SparkSession":
        """Start Spark on first use, or return the session that runs.

        Raises:
            JavaMissing: No Java 17 or newer; the message carries the install commands.
        """
        from dagster_pyspark import LazyPySparkResource

        from scale_assets.transforms.session import require_java, spark_config

        require_java()
        config = spark_config(
            master=self.master, driver_memory=self.driver_memory, scratch_dir=Path(self.scratch_dir)
        )
        return LazyPySparkResource(spark_config=config).spark_session

    @contextmanager
    def step(self) -> "Iterator[SparkSession]":
        """The session for one step, whose memory goes back to the machine when the step ends."""
        from scale_assets.transforms.session import give_back_memory

        session = self.session()
        try:
            yield session
        finally:
            give_back_memory(session)


class ModelRegistryResource(dg.ConfigurableResource):
    """MLflow: runs, registered versions and their aliases."""

    uri: str

    def client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)


def resources(settings: Settings) -> dict[str, dg.ConfigurableResource]:
    """Every resource by the name that asset functions use."""
    return {
        "settings": SettingsResource(),
        "lake": LakeResource(root=settings.lake_dir),
        "spark": SparkResource(
            master=settings.spark_master,
            driver_memory=settings.spark_driver_memory,
            scratch_dir=str(settings.spark_dir),
        ),
        "registry": ModelRegistryResource(uri=settings.mlflow_uri),
    }
