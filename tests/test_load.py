"""`scale load`, as a user calls it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from scale_assets.components.feature_views import FeatureViews
from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake
from tests.components.test_feature_views import STORE, VIEWS, YAML, fill
from tests.features.conftest import empty_redis, redis_url  # noqa: F401


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one declaration, stood in."""
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "feature_store.yaml").write_text(STORE)
    (tmp_path / "feature_repo" / "visits.py").write_text(VIEWS)
    declared = tmp_path / "shop" / "defs" / "features"
    declared.mkdir(parents=True)
    (tmp_path / "shop" / "__init__.py").touch()
    indented = "".join(f"  {line}\n" for line in YAML.splitlines())
    kind = f"{FeatureViews.__module__}.{FeatureViews.__name__}"
    (declared / "defs.yaml").write_text(f"type: {kind}\nattributes:\n{indented}")
    (tmp_path / "dg.toml").write_text(
        'directory_type = "project"\n\n[project]\nroot_module = "shop"\n'
    )
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[1]}:{tmp_path}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path / "data"))
    for name in ("SCALE_LAKE_ROOT", "SCALE_ONLINE_STORE", "SCALE_FEATURE_REGISTRY_PATH"):
        monkeypatch.setenv(name, "")  # set by Settings.apply; put back after the test
        monkeypatch.delenv(name)
    return tmp_path


def scale_load(*arguments: str) -> str:
    command = [sys.executable, "-m", "scale_assets", "load", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_a_lost_redis_is_filled_by_one_command(
    project: Path,
    empty_redis: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCALE_ONLINE_STORE_URL", empty_redis.replace("//", "//default:s3cret@"))
    with Redis.from_url(empty_redis) as client:
        client.config_set("requirepass", "s3cret")
    try:
        fill(Lake(project / "data" / "lake"), day=3, clock_day=3)
        first = scale_load()
        with Redis.from_url(empty_redis, password="s3cret") as client:
            client.delete("scale:{a}:visits")
        again, rebuilt = scale_load("visits"), scale_load("--rebuild")
        with Redis.from_url(empty_redis, password="s3cret") as client:
            client.flushall()
        refilled = scale_load()
        with open_backend(empty_redis.replace("//", "//:s3cret@")) as backend:
            found = OnlineReader(backend).read("visits", ["a", "b"])
    finally:
        with Redis.from_url(empty_redis, password="s3cret") as client:
            client.config_set("requirepass", "")

    assert [row is not None for row in found] == [True, True]
    assert "2 considered, 2 written" in first
    assert "0 considered, 0 written" in again
    assert "(all) 2 considered, 2 written" in refilled
    assert re.search(r"2 considered, 1 written, 0 removed \d+\.\d s \(\d+/s\)", rebuilt), rebuilt
    assert re.search(r"redis://127\.0\.0\.1:\d+/0 in \d+\.\d s", rebuilt), rebuilt
    assert "s3cret" not in first + again + rebuilt + refilled
    assert "redis://127.0.0.1" in first


def test_an_unknown_view_is_named(project: Path) -> None:
    with pytest.raises(AssertionError, match=r"'visit'.*visits"):
        scale_load("visit")
