"""What a server imports to read features: neither Feast nor pandas, and Redis only where it is used."""

import subprocess
import sys

import pytest

HEAVY = ("feast", "pandas", "pyarrow", "duckdb", "dagster", "deltalake")


@pytest.mark.parametrize(
    ("modules", "banned"),
    [
        ("scale_assets.features.codec, scale_assets.features.reader", (*HEAVY, "redis")),
        ("scale_assets.features.reader, scale_assets.features.stores.redis", HEAVY),
        ("scale_assets.features.writer", (*HEAVY, "redis")),
        ("serving.online_store", (*HEAVY, "redis")),
    ],
)
def test_reading_online_needs_nothing_heavy(modules: str, banned: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print(*sorted(set({banned!r}) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.split() == []
