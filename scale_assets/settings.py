"""The one reader of the environment: folders, engines and endpoints as typed values.

Every field can be set as ``SCALE_<NAME>`` in the environment or in a ``.env`` file of the project.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from scale_assets.errors import ScaleError

if TYPE_CHECKING:
    from scale_assets.lake.s3 import S3Options


def project_dir() -> Path:
    """The folder that holds ``dg.toml``: here or above; without one, the working directory."""
    here = Path.cwd()
    return next((each for each in (here, *here.parents) if (each / "dg.toml").is_file()), here)


# Several values in one variable, with commas.
Listed = Annotated[tuple[str, ...], NoDecode]

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
    "FEAST_USAGE": "False",
    "FEAST_TELEMETRY": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # read when ONNX Runtime is first imported
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}

# Else Spark asks the name server who this machine's own address is.
SPARK_ON_LOOPBACK = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"}


class SettingsRefused(ScaleError):
    """The environment or .env holds a value that its setting cannot have."""


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
    online_store_url: SecretStr | None = Field(
        default=None,
        description="Where features are served from: redis://user:password@host:6379/0, rediss:// "
        "with TLS, redis+cluster:// or rediss+cluster://; empty means a file, "
        "<data_dir>/online.db.",
    )
    online_store_clock: Literal["data", "wall"] = Field(
        default="data",
        description="What a feature's age is measured against: the newest time in the data, since "
        "history is replayed; or now, where events are live.",
    )
    feature_engine: Literal["duckdb", "spark"] = Field(
        default="duckdb",
        description="What joins feature histories to training rows: DuckDB on this machine, or "
        "Spark, where they are larger than it.",
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
    vectors_sample: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of entities, by a hash of the key, of whom `scale serve` logs every "
        "vector that it answers from, so that a release can be compared with the lake; `scale "
        "demo` logs its own two whatever this is.",
    )
    vectors_mib: float = Field(
        default=256, gt=0, description="Largest size of that log in MiB; the oldest files go first."
    )
    vectors_days: float = Field(
        default=28, gt=0, description="Age at which a file of that log goes; it is personal data."
    )
    collect_host: str = Field(
        default="127.0.0.1", description="Address that `scale collect` binds to."
    )
    collect_port: int = Field(default=8001, ge=0, le=65535, description="0 takes any free port.")
    collect_streams: Path = Field(
        default_factory=lambda: project_dir() / "collector.yaml",
        description="Declares which messages the collector keeps, and in which stream.",
    )
    collect_write_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Who may send: <source>=<write key>, several with commas.",
    )
    collect_pii_key: SecretStr | None = Field(
        default=None,
        description="Key of the hash that hides personal data; at least 32 characters.",
    )
    collect_pii_key_id: str = Field(
        default="1",
        description="Names that key in every pseudonym; give a new key a new id.",
    )
    collect_on_breach: Literal["quarantine", "refuse"] = Field(
        default="quarantine",
        description="What becomes of an event that breaks its contract: accepted, and set aside by "
        "ingestion; or refused with 400, so that the sender drops it.",
    )
    collect_cors_origins: Listed = Field(
        default=(),
        description="Origins of the web pages that may send, such as https://shop.example; * is "
        "any.",
    )
    collect_trusted_proxies: Listed = Field(
        default=(),
        description="Addresses or networks whose X-Forwarded-For is believed, such as 10.0.0.0/8.",
    )
    collect_events_per_second: float = Field(
        default=10_000, gt=0, description="Events per second and write key; more get 429."
    )
    collect_queue_mib: int = Field(
        default=64, gt=0, description="MiB of records that may wait to be written; more get 503."
    )
    collect_seal_seconds: float = Field(
        default=60, gt=0, description="Age at which a file of the feed is shown to ingestion."
    )
    collect_seal_mib: int = Field(
        default=64, gt=0, description="Size in MiB at which it is shown earlier."
    )
    feeds: Literal["files", "kafka"] = Field(
        default="files",
        description="Where `type: feed` is read and the collector and the replay write: files of "
        "the feeds folder, or topics of the Kafka cluster named below.",
    )
    kafka_topic_prefix: str = Field(
        default="", description="A feed's topic is this and the feed's name, such as shop.clicks."
    )
    kafka_bootstrap_servers: str | None = Field(
        default=None,
        description="Addresses of Kafka brokers, such as 127.0.0.1:9092,10.0.0.2:9092.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to them: SSL encrypts, SASL signs in."
    )
    kafka_sasl_mechanism: str | None = Field(
        default=None, description="How to sign in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, ..."
    )
    kafka_username: str | None = Field(default=None, description="As whom to sign in.")
    kafka_password: SecretStr | None = Field(default=None, description="With which password.")
    kafka_ca_path: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed the brokers' certificates; empty means "
        "the system's.",
    )
    kafka_certificate_path: Path | None = Field(
        default=None, description="PEM file of our own certificate, where brokers ask for one."
    )
    kafka_key_path: Path | None = Field(default=None, description="PEM file of its private key.")
    kafka_key_password: SecretStr | None = Field(default=None, description="Of that private key.")
    kafka_properties: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Any other properties of librdkafka, as a JSON object of strings.",
    )
    kafka_group_prefix: str = Field(
        default="scale-",
        description="Consumer groups are named <prefix><stream>; they share out partitions among "
        "followers and show lag, and are never read for a position.",
    )
    schema_registry_url: str | None = Field(
        default=None, description="Confluent Schema Registry, such as http://127.0.0.1:8081."
    )
    schema_registry_username: str | None = Field(default=None, description="Its API key.")
    schema_registry_password: SecretStr | None = Field(default=None, description="Its secret.")
    schema_registry_ca_path: Path | None = Field(
        default=None, description="PEM file of the authority that signed its certificate."
    )

    s3_endpoint_url: str | None = Field(
        default=None, description="Where the lake's S3 store answers, if not in AWS."
    )
    s3_region: str | None = Field(
        default=None, description="Region of its bucket; empty means the AWS default chain's."
    )
    s3_access_key_id: str | None = Field(
        default=None, description="Access key; empty means the AWS default chain, such as a role."
    )
    s3_secret_access_key: SecretStr | None = Field(default=None, description="Its secret.")
    s3_timeout_seconds: float = Field(default=30, gt=0, description="Of one request to it.")
    s3_part_mib: int = Field(
        default=16, ge=5, le=5120, description="Larger files go up in parts of this many MiB."
    )
    s3_cache_gib: float = Field(
        default=20, gt=0, description="Size of the lake's mirror in <data_dir>/cache, in GiB."
    )

    postgres: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="DSN of each captured database: SCALE_POSTGRES__SHOP is that of 'shop'.",
    )

    kinesis_region: str | None = Field(
        default=None, description="AWS region of the Kinesis streams; empty means boto3's own."
    )
    kinesis_endpoint_url: str | None = Field(
        default=None, description="Where Kinesis answers, if not in AWS."
    )
    kinesis_access_key_id: str | None = Field(
        default=None, description="Access key; empty means boto3's own chain, such as a role."
    )
    kinesis_secret_access_key: SecretStr | None = Field(default=None, description="Its secret.")

    @field_validator("collect_cors_origins", "collect_trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("data_dir", "input_dir", "collect_streams")
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
    def s3(self) -> "S3Options":
        """How to reach an S3 store; with its secret, so never to be shown."""
        from scale_assets.lake.s3 import S3Options

        secret = self.s3_secret_access_key
        return S3Options(
            cache_dir=str(self.data_dir / "cache"),
            cache_gib=self.s3_cache_gib,
            endpoint_url=self.s3_endpoint_url,
            region=self.s3_region,
            access_key_id=self.s3_access_key_id,
            secret_access_key=None if secret is None else secret.get_secret_value(),
            timeout_seconds=self.s3_timeout_seconds,
            part_mib=self.s3_part_mib,
        )

    @property
    def is_lake_remote(self) -> bool:
        return "://" in self.lake_dir

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file; dbt is its one writer."""
        return self.data_dir / "warehouse.duckdb"

    @property
    def dbt_target_dir(self) -> Path:
        return self.data_dir / "dbt"

    @property
    def online_store_path(self) -> Path:
        """The file that features are served from, unless they are in Redis."""
        return self.data_dir / "online.db"

    @property
    def online_store(self) -> str:
        """Address of the online store; with its password, so never to be shown."""
        url = self.online_store_url
        return str(self.online_store_path) if url is None else url.get_secret_value()

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
    def vectors_dir(self) -> Path:
        """The sample of served vectors, as files of JSON lines."""
        return self.data_dir / "vectors"

    @property
    def spark_dir(self) -> Path:
        """Scratch of the Spark driver: staging, spill, warehouse."""
        return self.data_dir / "spark"

    @property
    def servers_dir(self) -> Path:
        """Where the servers of `scale up` keep what they need."""
        return self.data_dir / "servers"

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
            "SCALE_ONLINE_STORE": self.online_store,
            "SCALE_ONLINE_STORE_CLOCK": self.online_store_clock,
            "SCALE_FEATURE_ENGINE": self.feature_engine,
            "SCALE_FEATURE_REGISTRY_PATH": str(self.feature_registry_path),
            "SCALE_LAKE_ROOT": self.lake_dir,
            "SCALE_LAKE_S3": json.dumps(asdict(self.s3)) if self.is_lake_remote else "",
            **(SPARK_ON_LOOPBACK if self.spark_master.startswith("local") else {}),
            "DAGSTER_EVENT_BATCH_SIZE": "1000",  # one log transaction for a step's dates
            **TELEMETRY_OFF,
        }

    def apply(self) -> None:
        """Export to this process, so that libraries configured by variables agree with us."""
        os.environ.update(self.exported())


def load_settings() -> Settings:
    """The settings, read again only where they may have changed; turns telemetry off, too.

    Raises:
        SettingsRefused: A value is none; it is named and, since it may be a secret, not shown.
    """
    env_file = project_dir() / ".env"
    written = env_file.stat().st_mtime_ns if env_file.is_file() else None
    settings = _read(env_file, written, Path.cwd(), frozenset(os.environ.items()))
    settings.apply()
    return settings


@lru_cache(maxsize=4)
def _read(
    env_file: Path,
    _written: int | None,
    _cwd: Path,  # what relative folders are relative to
    _environment: frozenset[tuple[str, str]],
) -> Settings:
    """Reading takes milliseconds, and every component asks."""
    try:
        return Settings(_env_file=env_file)
    except ValidationError as error:
        raise SettingsRefused("\n".join(_refusals(error))) from None
    except SettingsError as error:
        found = re.search(r'field "(\w+)"', str(error))
        name = f"SCALE_{found[1].upper()}" if found else "a setting SCALE_*"
        raise SettingsRefused(f"{name} is not JSON") from None


def _refusals(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_input=False, include_url=False):
        name = "__".join(map(str, problem["loc"])).upper()
        yield f"SCALE_{name}: {problem['msg']}"
