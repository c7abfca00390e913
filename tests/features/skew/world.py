"""A small world that serves: two tables, a stream, their online values, two releases, a server."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient

from scale_assets.features.codec import to_micros
from scale_assets.features.loading import load_view
from scale_assets.features.reader import OnlineReader
from scale_assets.features.repo import SourceDeclaration, ViewDeclaration
from scale_assets.features.skew.compare import ServedModel, compare_served
from scale_assets.features.skew.report import SkewReport
from scale_assets.features.stores import Clock, open_backend
from scale_assets.features.streaming.aggregates import Aggregates, Last, Recency, Windowed
from scale_assets.features.streaming.declared import EventColumns, StreamingView
from scale_assets.features.streaming.keys import JoinKey
from scale_assets.features.streaming.updater import Updater
from scale_assets.lake import Lake
from serving.app import create_app
from serving.vector_sample import VectorSample
from tests.serving.conftest import save, write_next_site

START = datetime(2014, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
USERS = [f"user-{number}" for number in range(30)]
NUMERIC = ("clicks_7d", "clicks_28d", "seconds", "score", "is_member", "visits_1d")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

ACTIVITY = ViewDeclaration(
    name="activity",
    join_keys=("user_id",),
    columns=(
        ("clicks_7d", "int64"),
        ("clicks_28d", "int64"),
        ("seconds", "float64"),
        ("score", "float64"),
        ("is_member", "bool"),
        ("plan", "string"),
    ),
    ttl=timedelta(days=7),
    source=SourceDeclaration("activity", "feature_time", "known_at"),
)
HISTORY = ViewDeclaration(
    name="registration_history",
    join_keys=("user_id",),
    columns=(("presentation_id", "string"), ("site_ids", "list<int64>")),
    ttl=None,
    source=SourceDeclaration("history", "feature_time", "known_at"),
)
CATALOGUE = ViewDeclaration(
    name="presentation_sites",
    join_keys=("shop_id",),
    columns=(("site_ids", "list<int64>"), ("students_7d", "list<int64>")),
    ttl=None,
    source=SourceDeclaration("catalogue", "feature_time", "known_at"),
)
STREAM = StreamingView(
    name="visits",
    table="raw/visits",
    columns=EventColumns(
        keys=(JoinKey("user_id", "{user_id}"),), event_time="event_time", received_at="received_at"
    ),
    aggregates=Aggregates(
        (
            Windowed(name="visits_1d", window=DAY, column=None),
            Last(name="last_sites", column="site_id", limit=3),
            Recency(name="seconds_since_visit"),
        )
    ),
)
VISITS = ViewDeclaration(
    name="visits",
    join_keys=("user_id",),
    columns=tuple(STREAM.aggregates.types.items()),
    ttl=None,
    source=SourceDeclaration("raw/visits", "event_time", "received_at"),
    stream=STREAM,
)
OWNERS = {
    **{name: ("activity", name) for name in (*NUMERIC[:5], "plan")},
    "visits_1d": ("visits", "visits_1d"),
}
CHURN = ServedModel(name="churn", views=(ACTIVITY, VISITS), inputs=OWNERS)
NEXT_SITE = ServedModel(
    name="next_site",
    views=(HISTORY, CATALOGUE),
    inputs={
        "history_site_ids": ("registration_history", "site_ids"),
        "candidate_site_ids": ("presentation_sites", "site_ids"),
    },
)


def activity(day: int, *, seed: int = 7) -> pa.Table:
    """Everybody's row of a day, known an hour later; some have no score, or no plan."""
    rng = np.random.default_rng([seed, day])
    at = START + day * DAY
    counts = np.sort(rng.integers(1, 10**6, (len(USERS), 2)), axis=1)
    scores = [None if n % 3 == 0 else float(rng.normal()) for n, _ in enumerate(USERS)]
    return pa.table(
        {
            "user_id": USERS,
            "feature_time": pa.array([at] * len(USERS), TIME),
            "known_at": pa.array([at + HOUR] * len(USERS), TIME),
            "clicks_7d": counts[:, 0],
            "clicks_28d": counts[:, 1] + 1,
            "seconds": rng.random(len(USERS)) * 1e5 + 1,
            "score": pa.array(scores, pa.float64()),
            "is_member": rng.random(len(USERS)) < 0.5,
            "plan": pa.array([(None, "free", "paid")[n % 3] for n, _ in enumerate(USERS)]),
        }
    )


def history(day: int) -> pa.Table:
    at = START + day * DAY + HOUR
    return pa.table(
        {
            "user_id": USERS,
            "feature_time": pa.array([at] * len(USERS), TIME),
            "known_at": pa.array([at] * len(USERS), TIME),
            "presentation_id": ["shop"] * len(USERS),
            "site_ids": [list(range(n % 5 + day)) for n, _ in enumerate(USERS)],
        },
    ).cast(
        pa.schema(
            [
                ("user_id", pa.string()),
                ("feature_time", TIME),
                ("known_at", TIME),
                ("presentation_id", pa.string()),
                ("site_ids", pa.list_(pa.int64())),
            ]
        )
    )


def catalogue() -> pa.Table:
    at = pa.array([START], TIME)
    return pa.table(
        {
            "shop_id": ["shop"],
            "feature_time": at,
            "known_at": at,
            "site_ids": pa.array([[1, 2, 3, 4]], pa.list_(pa.int64())),
            "students_7d": pa.array([[9, 7, 5, 3]], pa.list_(pa.int64())),
        }
    )


def visits(day: int) -> pa.Table:
    """Every second user visits twice on a day, everybody on the first; received an hour later."""
    users = (USERS[::2] if day else USERS) * 2
    at = [START + day * DAY + n * timedelta(minutes=7) for n, _ in enumerate(users)]
    return pa.table(
        {
            "user_id": users,
            "event_time": pa.array(at, TIME),
            "received_at": pa.array([moment + HOUR for moment in at], TIME),
            "site_id": pa.array(range(len(users)), pa.int64()),
        }
    )


@dataclass(frozen=True)
class World:
    """Where everything is; its clock stands where the last load put it."""

    root: Path

    @property
    def lake(self) -> Lake:
        return Lake(self.root / "lake")

    @property
    def vectors(self) -> Path:
        return self.root / "vectors"

    def live(self, day: int) -> None:
        """A day passes: rows come into the lake's tables."""
        for table, rows in (("activity", activity(day)), ("raw/visits", visits(day))):
            self.lake.append_once(table, rows, positions={"day": day})
        self.lake.overwrite("history", history(day))  # a table of the latest rows

    def load(self, *views: ViewDeclaration, day: int) -> None:
        """Bring views online, and the store's clock to the day's end."""
        clock = to_micros(START + (day + 1) * DAY)
        with open_backend(self.root / "online.db") as backend:
            for view in views:
                if view.stream is None:
                    load_view(self.lake, view, backend, clock=clock)
                else:
                    Updater(self.lake.open(view.stream.table), view.stream, backend).catch_up()

    def load_as(self, table: pa.Table, view: ViewDeclaration, *, day: int) -> None:
        """Bring a view online from other rows than the lake's."""
        self.lake.overwrite("wrong", table)
        source = replace(view.source, table="wrong")
        self.load(replace(view, source=source), day=day)

    def serve(
        self, users: Sequence[str] = USERS, *, model: str = "churn", clock: Clock = "data"
    ) -> None:
        """Ask about each user, with every vector logged."""
        sample = VectorSample(folder=self.vectors, rate=1, max_mib=64, max_days=28)
        app = create_app(
            releases_dir=self.root / "releases",
            online_store=OnlineReader(self.root / "online.db", clock=clock),
            sample=sample,
        )
        route = "/v1/recommend" if model == "next_site" else f"/v1/predict/{model}"
        with TestClient(app) as client:
            for user in users:
                body = {"registration_id": user}
                if model == "next_site":
                    body["presentation_id"] = "shop"
                answer = client.post(route, json=body)
                assert answer.status_code == 200, answer.text

    def compare(self, served: ServedModel = CHURN, *, since: datetime | None = None) -> SkewReport:
        start = datetime.now(UTC) - DAY if since is None else since
        return compare_served(self.lake, self.vectors, served, since=start)


def world_in(root: Path) -> World:
    """Three days have passed, and everything is online."""
    world = World(root)
    for day in range(3):
        world.live(day)
    world.lake.overwrite("catalogue", catalogue())
    world.load(ACTIVITY, HISTORY, CATALOGUE, VISITS, day=2)
    write_churn(root / "releases")
    write_next_site(root / "releases")
    return world


def write_churn(root: Path, *, version: str = "1", features: Sequence[str] = NUMERIC) -> None:
    """A release whose inputs are called as the model knows them, filled from ``features``."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["numeric"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "numeric"], ["known"]),
            helper.make_node("ReduceSum", ["known", "axes"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        ],
        "churn",
        [
            info("numeric", TensorProto.FLOAT, ["batch", len(NUMERIC)]),
            info("categorical", TensorProto.STRING, ["batch", 1]),
        ],
        [info("probabilities", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"),
            numpy_helper.from_array(np.float32(0), "zero"),
        ],
    )
    filled = zip(NUMERIC, features, strict=True)
    manifest = {
        "model": "churn",
        "version": version,
        "kind": "tabular",
        "candidate": "network",
        "feature_service": "churn_v1",
        "views": {
            "activity": {
                "features": [name for name, _ in ACTIVITY.columns],
                "max_age_seconds": 7 * 86400,
            },
            "visits": {"features": ["visits_1d"]},
        },
        "numeric": [
            {"name": name, **dict(zip(("view", "feature"), OWNERS[feature], strict=True))}
            for name, feature in filled
        ],
        "categorical": [{"name": "plan", "view": "activity", "feature": "plan"}],
        "outputs": ["churned"],
        "fallback": ["fresh", "default"],
    }
    save(root / "churn", graph, manifest)
