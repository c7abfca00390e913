"""A missing or old Java is one clear line; the settings keep Spark inside its scratch folder."""

from pathlib import Path

import pytest

from scale_assets.transforms.session import JavaMissing, require_java, spark_config


def fake_java(folder: Path, version: str) -> None:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "major"), [("17.0.15", 17), ("21", 21), ("25.0.1", 25)], ids=str
)
def test_new_enough_java_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: int
) -> None:
    fake_java(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    assert require_java() == major


@pytest.mark.parametrize(("version", "major"), [("11.0.2", "11"), ("1.8.0_392", "8")], ids=str)
def test_old_java_is_named_with_install_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: str
) -> None:
    fake_java(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    with pytest.raises(JavaMissing, match=f"is Java {major}.*apt-get.*brew.*conda") as raised:
        require_java()
    assert "\n" not in str(raised.value)


def test_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(JavaMissing, match="no Java was found"):
        require_java()


def test_a_local_session_writes_nothing_outside_its_scratch_folder(tmp_path: Path) -> None:
    config = spark_config(master="local[2]", driver_memory="1g", scratch_dir=tmp_path)

    assert config["spark.sql.warehouse.dir"].startswith(str(tmp_path))
    assert config["spark.local.dir"].startswith(str(tmp_path))
    assert f"derby.system.home={tmp_path}" in config["spark.driver.extraJavaOptions"]
    assert config["spark.driver.bindAddress"] == "127.0.0.1"
    assert config["spark.ui.enabled"] == "false"


def test_a_cluster_keeps_its_own_number_of_shuffle_partitions(tmp_path: Path) -> None:
    config = spark_config(master="spark://host:7077", driver_memory="1g", scratch_dir=tmp_path)

    assert "spark.sql.shuffle.partitions" not in config
    assert "spark.driver.bindAddress" not in config
