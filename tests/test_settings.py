"""What settings hand on to libraries that read the environment themselves."""

import json
from pathlib import Path

import pytest

from scale_assets.settings import TELEMETRY_OFF, Settings, SettingsRefused, load_settings


def test_telemetry_is_off_in_every_child(tmp_path: Path) -> None:
    exported = Settings(data_dir=tmp_path).exported()

    assert exported.items() >= TELEMETRY_OFF.items()


@pytest.mark.parametrize(
    ("master", "is_local"), [("local[*]", True), ("local", True), ("spark://head:7077", False)]
)
def test_only_a_local_spark_stays_on_loopback(tmp_path: Path, master: str, is_local: bool) -> None:
    exported = Settings(data_dir=tmp_path, spark_master=master).exported()

    assert ("SPARK_LOCAL_IP" in exported) == is_local


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SCALE_SERVE_PORT", "70000", "less than or equal to 65535"),
        ("SCALE_FEEDS", "kafak", "'files' or 'kafka'"),
        ("SCALE_KAFKA_PROPERTIES", "sasl.password=hush", "is not JSON"),
        ("SCALE_KAFKA_PROPERTIES", '["hush"]', "valid dictionary"),
    ],
)
def test_a_value_that_is_none_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsRefused, match=f"{name}.*{reason}") as refused:
        load_settings()

    assert value not in str(refused.value)


def test_the_stores_secret_reaches_feast_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALE_S3_SECRET_ACCESS_KEY", "hidden")
    settings = Settings(data_dir=tmp_path, lake_root="s3://lake/x", s3_access_key_id="me")
    assert "hidden" not in repr(settings)
    assert "hidden" not in repr(settings.s3)
    assert json.loads(settings.exported()["SCALE_LAKE_S3"])["secret_access_key"] == "hidden"
    assert Settings(data_dir=tmp_path).exported()["SCALE_LAKE_S3"] == ""
