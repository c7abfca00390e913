"""The one reader of the environment: folders, engines and endpoints as typed values.

Every field can be set as ``SCALE_<NAME>`` in the environment or in a ``.env`` file of the project.
"""

import os
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from scale_assets.errors import ScaleError


def project_dir() -> Path:
    """The folder that holds ``dg.toml``: here or above; without one, the working directory."""
    here = Path.cwd()
    return next((each for each in (here, *here.parents) if (each / "dg.toml").is_file()), here)


TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
    "FEAST_USAGE": "False",
    "FEAST_TELEMETRY": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


class Settings(BaseSettings):
    """Where everything lives and which engines run it. Nothing else reads the environment."""

    model_config = SettingsConfigDict(
        env_prefix="SCALE_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
    )

    data_dir: Path = Field(
        default_factory=lambda: project_dir() / ".data",
        description="Folder that holds everything a run writes; deleting it starts afresh.",
    )
    input_dir: Path | None = Field(
        default=None, description="OULAD tables to replay; empty means look for them."
    )
    lake_root: str | None = Field(
        default=None, description="Root of the Delta tables; empty means <data_dir>/lake."
    )
    spark_master: str = Field(default="local[*]", description="Spark master URL.")
    spark_driver_memory: str = Field(
        default="3g", description="Heap of the Spark driver, as Spark writes it."
    )
    describe_vocabulary: bool = Field(
        default=False,
        description="Load the documentation of all installed components for Dagster's UI, which "
        "takes seconds; `scale dev` does.",
    )
    serve_host: str = Field(default="127.0.0.1", description="Address that `scale serve` binds to.")
    serve_port: int = Field(default=8000, ge=0, le=65535, description="0 takes any free port.")

    postgres: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="DSN of each captured database: SCALE_POSTGRES__SHOP is that of 'shop'.",
    )

    @field_validator("data_dir", "input_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().resolve()

    @property
    def feeds_dir(self) -> Path:
        """Where source systems drop their files."""
        return self.data_dir / "feeds"

    @property
    def lake_dir(self) -> str:
        return self.lake_root or str(self.data_dir / "lake")

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file; dbt is its one writer."""
        return self.data_dir / "warehouse.duckdb"

    @property
    def dbt_target_dir(self) -> Path:
        return self.data_dir / "dbt"

    @property
    def online_store_path(self) -> Path:
        return self.data_dir / "online.db"

    @property
    def feature_registry_path(self) -> Path:
        return self.data_dir / "feast_registry.db"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.data_dir / 'mlflow.db'}"

    @property
    def training_dir(self) -> Path:
        return self.data_dir / "training"

    @property
    def releases_dir(self) -> Path:
        return self.data_dir / "releases"

    @property
    def spark_dir(self) -> Path:
        """Scratch of the Spark driver: staging, spill, warehouse."""
        return self.data_dir / "spark"

    @property
    def dagster_home(self) -> Path:
        return self.data_dir / "dagster"

    @property
    def report_path(self) -> Path:
        return self.data_dir / "report.html"

    def postgres_dsn(self, name: str) -> str:
        """How to reach a captured database; with its password, so never to be shown.

        Raises:
            ScaleError: The setting is missing.
        """
        dsn = self.postgres.get(name.lower())
        if dsn is None:
            raise ScaleError(
                f"no database {name!r} in the settings; set SCALE_POSTGRES__{name.upper()} to its "
                "DSN, such as postgresql://capture:password@host:5432/shop"
            )
        return dsn.get_secret_value()

    def exported(self) -> dict[str, str]:
        """Variables that child processes and libraries with their own configuration read."""
        return {
            "SCALE_DATA_DIR": str(self.data_dir),
            "SCALE_WAREHOUSE_PATH": str(self.warehouse_path),
            "SCALE_ONLINE_STORE_PATH": str(self.online_store_path),
            "SCALE_FEATURE_REGISTRY_PATH": str(self.feature_registry_path),
            "SCALE_LAKE_ROOT": self.lake_dir,
            **TELEMETRY_OFF,
        }

    def apply(self) -> None:
        """Export to this process, so that libraries configured by variables agree with us."""
        os.environ.update(self.exported())


def load_settings() -> Settings:
    """Read the environment once and hand it on; also turns every library's telemetry off."""
    settings = Settings(_env_file=project_dir() / ".env")
    settings.apply()
    return settings
