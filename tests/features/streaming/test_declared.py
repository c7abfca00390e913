"""What streams.yml may say, and what is said of the rest."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from scale_assets.features.repo import read_repo
from scale_assets.features.streaming.aggregates import Last, Recency, Windowed
from scale_assets.features.streaming.declared import StreamError, StreamingView, declared_streams

ROOT = Path(__file__).resolve().parents[3]
STREAM = {
    "name": "live",
    "table": "raw/clicks",
    "entity": "user",
    "key": "{user_id}",
    "event_time": "event_time",
    "received_at": "received_at",
    "features": [
        {"name": "events_30m", "count": "events", "window": "30m"},
        {"name": "clicks_7d", "sum": "clicks", "window": "7d", "description": "Clicks."},
        {"name": "last_sites", "last": "site", "limit": 3},
        {"name": "seconds_since", "recency": "seconds"},
    ],
}


def write(folder: Path, stream: dict[str, Any]) -> Path:
    path = folder / "streams.yml"
    path.write_text(yaml.safe_dump({"streams": [stream]}))
    return path


def read(path: Path) -> StreamingView:
    (declared,) = declared_streams(path)
    return declared.of("user_id")


def test_features_are_read(tmp_path: Path) -> None:
    view = read(write(tmp_path, STREAM))
    assert view.aggregates.features == (
        Windowed(name="events_30m", window=timedelta(minutes=30)),
        Windowed(name="clicks_7d", window=timedelta(days=7), column="clicks"),
        Last(name="last_sites", column="site", limit=3),
        Recency(name="seconds_since"),
    )
    assert (view.table, view.columns.keys[0].columns) == ("raw/clicks", ["user_id"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"table": None}, "lacks 'table'", id="no table"),
        pytest.param({"tabel": "x"}, "has no key 'tabel'", id="unknown key"),
        pytest.param({"key": "user_id"}, "names no column", id="key without braces"),
        pytest.param(
            {"features": [{"name": "a", "count": "events", "last": "b"}]}, "one of", id="two kinds"
        ),
        pytest.param(
            {"features": [{"name": "a", "count": "events"}]}, "has the keys", id="no window"
        ),
        pytest.param(
            {"features": [{"name": "a", "count": "clicks", "window": "1h"}]},
            "write count: events",
            id="count of a column",
        ),
        pytest.param(
            {"features": [{"name": "a", "count": "events", "window": "1 week"}]},
            "write it as 30m, 12h or 7d",
            id="window in words",
        ),
        pytest.param(
            {"features": [{"name": "a", "count": "events", "window": "7m"}]},
            "no multiple of its tile",
            id="between tiles",
        ),
    ],
)
def test_faults_name_the_file_the_view_and_the_way_out(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    stream = {key: value for key, value in (STREAM | change).items() if value is not None}
    path = write(tmp_path, stream)
    with pytest.raises(StreamError, match=message) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: stream live")


def test_the_repositorys_view_over_clicks_is_read_without_feast() -> None:
    view = read_repo(ROOT / "feature_repo").views["registration_clicks"]
    assert view.stream is not None
    assert dict(view.columns)["last_sites"] == "list<int64>"
    assert (view.join_keys, view.source.table) == (("registration_id",), "raw/clicks")
