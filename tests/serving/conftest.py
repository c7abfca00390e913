"""A small world to serve: two hand-made releases and an online store of three students."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient

from scale_assets.features.codec import Layout
from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import open_backend
from scale_assets.features.writer import Value, ViewWriter
from serving.app import create_app

NOW = datetime(2014, 3, 1, tzinfo=UTC)
ACTIVITY = Layout((("clicks_7d", "int64"), ("module_id", "string")))
HISTORY = Layout((("presentation_id", "string"), ("site_ids", "list<int64>")))
CATALOGUE = Layout((("site_ids", "list<int64>"), ("students_7d", "list<int64>")))


def micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def value(key: str, values: dict[str, Any], at: datetime) -> Value:
    return Value(key, values, micros(at), micros(at))


def write_store(address: str | Path) -> None:
    """ada is fresh, bob's features are 60 days old, everybody else is unknown."""
    old = NOW - timedelta(days=60)
    rows = {
        "activity": (
            ACTIVITY,
            [
                value("ada", {"clicks_7d": 2, "module_id": "FFF"}, NOW),
                value("bob", {"clicks_7d": 9, "module_id": "FFF"}, old),
            ],
        ),
        "registration_history": (
            HISTORY,
            [value("ada", {"presentation_id": "FFF-2013B", "site_ids": [11, 12]}, NOW)],
        ),
        "presentation_sites": (
            CATALOGUE,
            [
                value(
                    "FFF-2013B",
                    {"site_ids": [11, 12, 13, 14], "students_7d": [1, 5, 9, 3]},
                    NOW,
                )
            ],
        ),
    }
    with open_backend(address) as backend:
        for view, (layout, values) in rows.items():
            ViewWriter(backend, view, layout, ttl=None).write(values)


def save(folder: Path, graph: onnx.GraphProto, manifest: dict[str, Any]) -> None:
    """A release folder, made current the way the release asset does."""
    version = folder / manifest["version"]
    version.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(version / "model.onnx"))
    (version / "release.json").write_text(json.dumps({"format": 1, **manifest}))
    link = folder / "current"
    link.unlink(missing_ok=True)
    link.symlink_to(version.name)


def write_withdrawal(root: Path, *, version: str = "1", weight: float = -1.0) -> None:
    """probability = sigmoid(weight * clicks_7d), where an unknown count is 0."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["numeric"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "numeric"], ["known"]),
            helper.make_node("Mul", ["known", "weight"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        ],
        "withdrawal",
        [
            info("numeric", TensorProto.FLOAT, ["batch", 1]),
            info("categorical", TensorProto.STRING, ["batch", 1]),
        ],
        [info("probabilities", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(weight), "weight"),
        ],
    )
    manifest = {
        "model": "withdrawal",
        "version": version,
        "kind": "tabular",
        "candidate": "network",
        "feature_service": "withdrawal_v1",
        "views": {
            "activity": {"features": ["clicks_7d", "module_id"], "max_age_seconds": 7 * 86400}
        },
        "numeric": [{"name": "clicks_7d", "view": "activity", "feature": "clicks_7d"}],
        "categorical": [{"name": "module_id", "view": "activity", "feature": "module_id"}],
        "outputs": ["cancelled_within_7d"],
        "fallback": ["fresh", "default"],
    }
    save(root / "withdrawal", graph, manifest)


def write_next_site(root: Path) -> None:
    """score = site id, so that the order is known: 14, 13, 12, 11."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["candidate_site_ids"], ["scores"], to=TensorProto.FLOAT),
        ],
        "next_site",
        [
            info("history_site_ids", TensorProto.INT64, ["batch", "history"]),
            info("candidate_site_ids", TensorProto.INT64, ["batch", "candidates"]),
        ],
        [info("scores", TensorProto.FLOAT, ["batch", "candidates"])],
    )
    manifest = {
        "model": "next_site",
        "version": "1",
        "kind": "ranking",
        "candidate": "network",
        "feature_service": "next_site_v1",
        "views": {
            "registration_history": {"features": ["presentation_id", "site_ids"]},
            "presentation_sites": {"features": ["site_ids", "students_7d"]},
        },
        "inputs": [
            {"name": "history_site_ids", "view": "registration_history", "feature": "site_ids"},
            {"name": "candidate_site_ids", "view": "presentation_sites", "feature": "site_ids"},
        ],
        "outputs": ["scores"],
        "fallback": ["fresh", "popular"],
    }
    save(root / "next_site", graph, manifest)


@pytest.fixture
def releases_dir(tmp_path: Path) -> Path:
    root = tmp_path / "releases"
    write_withdrawal(root)
    write_next_site(root)
    return root


@pytest.fixture
def online_store(tmp_path: Path) -> Path:
    path = tmp_path / "online.db"
    write_store(path)
    return path


@pytest.fixture
def client(releases_dir: Path, online_store: Path) -> Iterator[TestClient]:
    app = create_app(releases_dir=releases_dir, online_store=OnlineReader(online_store))
    with TestClient(app, raise_server_exceptions=False) as served:
        yield served
