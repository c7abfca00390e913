"""What Java servers need is fetched once; what is missing is said with the way to get it."""

from pathlib import Path

import pytest

from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.java import fetch_jars, find_java


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    return folder


def test_an_old_java_is_refused(path: Path) -> None:
    with pytest.raises(ServerUnavailable, match=r"no java on the path; run `apt-get install"):
        find_java("kafka")
    program(path, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    with pytest.raises(ServerUnavailable, match=r"kafka cannot start: it needs Java 17.*11\.0\.2"):
        find_java("kafka")
    program(path, "java", "echo 'openjdk version \"21.0.1\"' >&2")
    assert find_java("kafka") == str(path / "java")


def test_jars_are_fetched_once(path: Path, tmp_path: Path) -> None:
    program(path, "mvn", "/bin/mkdir jars; echo x > jars/a.jar")
    found = fetch_jars("kafka", ["org:some:1"], tmp_path / "jars")
    assert [jar.name for jar in found.iterdir()] == ["a.jar"]
    program(path, "mvn", "exit 1")
    assert fetch_jars("kafka", ["org:some:1"], tmp_path / "jars") == found


def test_a_failed_fetch_says_what_maven_said_and_leaves_nothing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match=r"no mvn.*apt-get install maven"):
        fetch_jars("kafka", ["org:some:1"], tmp_path / "jars")
    program(path, "mvn", "echo '[ERROR] org:some:1 is not served'; exit 1")
    with pytest.raises(ServerUnavailable, match=r"cannot fetch org:some:1: .* is not served"):
        fetch_jars("kafka", ["org:some:1"], tmp_path / "jars")
    assert list((tmp_path / "jars").iterdir()) == []
