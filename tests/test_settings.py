"""What settings hand on to libraries that read the environment themselves."""

from pathlib import Path

import pytest

from scale_assets.settings import TELEMETRY_OFF, Settings


def test_telemetry_is_off_in_every_child(tmp_path: Path) -> None:
    exported = Settings(data_dir=tmp_path).exported()

    assert exported.items() >= TELEMETRY_OFF.items()


@pytest.mark.parametrize(
    ("master", "is_local"), [("local[*]", True), ("local", True), ("spark://head:7077", False)]
)
def test_only_a_local_spark_stays_on_loopback(tmp_path: Path, master: str, is_local: bool) -> None:
    exported = Settings(data_dir=tmp_path, spark_master=master).exported()

    assert ("SPARK_LOCAL_IP" in exported) == is_local
