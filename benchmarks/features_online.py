"""Online reads and loads: our store against Feast's, in one Redis.

A view of 50 floats for 50,000 entities (quick: 5,000). Loads, in turns: ours from Delta, Feast's
``materialize`` of the same rows from Parquet, each into an emptied database of the same server. Reads,
in turns within one process: a bare MGET with numpy.frombuffer, our thin reader, Feast's SDK over our
store, over its own Redis store, and over its precomputed feature service.
"""

import io
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis, RedisError

from benchmarks.measure import Comparison, scratch_folder
from scale_assets.demo import free_port
from scale_assets.features.loading import load_view
from scale_assets.features.reader import OnlineReader
from scale_assets.features.repo import SourceDeclaration, ViewDeclaration
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake
from scale_assets.servers.redis import find_program

NUM_COLUMNS = 50
COLUMNS = [f"f{i}" for i in range(NUM_COLUMNS)]
VIEW = ViewDeclaration(
    name="vector",
    join_keys=("user",),
    columns=tuple((name, "float64") for name in COLUMNS),
    ttl=timedelta(days=1),
    source=SourceDeclaration("vector", "feature_time", "known_at"),
)
TIME = pa.timestamp("us", tz="UTC")
SDK_GOALS = {1: 5.0, 100: 30.0}
THIN_GOAL, LOAD_GOAL = 2.0, 10.0
PEER, OURS = 1, 2  # databases of the server

STORES = {
    "feast": "{{type: redis, connection_string: '127.0.0.1:{port},db=1'}}",
    "ours": (
        "{{type: scale_assets.features.online.PackedOnlineStore,"
        " address: 'redis://127.0.0.1:{port}/2', clock: wall}}"
    ),
}
CONFIG = """
project: bench
provider: local
registry: {{path: "{folder}/{name}.pb", cache_ttl_seconds: 0}}
offline_store: {{type: duckdb}}
online_store: {store}
entity_key_serialization_version: 3
"""


def compare(quick: bool) -> Iterator[Comparison]:
    """Loads first, so that there is something to read."""
    num_rows, rounds, reads = (5_000, 3, 40) if quick else (50_000, 5, 200)
    with scratch_folder() as folder, redis_server(folder) as port:
        stage = Stage(folder, port, num_rows)
        yield from stage.loads(rounds)
        stage.precompute()
        for num_keys, goal in SDK_GOALS.items():
            yield from stage.reads(num_keys, goal, rounds=rounds, reads=reads)


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    port = free_port()
    command = [find_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with Redis(port=port) as client:
            for _ in range(200):
                try:
                    client.ping()
                    break
                except RedisError:
                    time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


class Stage:
    """The same rows in Delta and in Parquet, and a Feast repository for each store."""

    def __init__(self, folder: Path, port: int, num_rows: int) -> None:
        self.port = port
        self.keys = [f"user-{i}" for i in range(num_rows)]
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.lake = Lake(folder / "lake")
        rows = self._rows()
        self.lake.overwrite("vector", rows)
        pq.write_table(rows, folder / "rows.parquet")
        self.stores = {name: self._repository(folder, name) for name in STORES}
        self.address = f"redis://127.0.0.1:{port}/{OURS}"

    def _rows(self) -> pa.Table:
        generator = np.random.default_rng(1)
        times = pa.array([self.now - timedelta(hours=1)] * len(self.keys), TIME)
        columns = {name: generator.random(len(self.keys)) for name in COLUMNS}
        return pa.table({"user": self.keys, "feature_time": times, "known_at": times, **columns})

    def _repository(self, folder: Path, name: str) -> Any:
        from feast import FeatureStore

        repo = folder / f"repo_{name}"
        repo.mkdir()
        store = STORES[name].format(port=self.port)
        config = CONFIG.format(folder=folder, name=name, store=store)
        (repo / "feature_store.yaml").write_text(config)
        opened = FeatureStore(repo_path=str(repo))
        opened.apply(feast_objects(folder / "rows.parquet"))
        return opened

    def loads(self, rounds: int) -> Iterator[Comparison]:
        ours, again, theirs = [], [], []
        for _ in range(rounds):
            self._emptied(OURS)
            ours.append(timed(self._load))
            again.append(timed(self._reload))
            self._emptied(PEER)
            theirs.append(timed(self._materialize))
        median, peer = statistics.median(ours), statistics.median(theirs)
        what = f"online load of {len(self.keys):,} entities x {NUM_COLUMNS} floats into Redis"
        goal = f"at most 1/{LOAD_GOAL:g}"
        is_met = median * LOAD_GOAL <= peer
        yield Comparison(what, median, "s", "Feast's materialize", peer, goal, is_met)
        rebuilt = statistics.median(again)
        name = "scale load --rebuild, nothing lost"
        yield Comparison(name, rebuilt, "s", "Feast's materialize", peer, "none", ok=True)

    def _load(self, *, full: bool = False) -> None:
        with open_backend(self.address) as backend:
            load_view(self.lake, VIEW, backend, full=full)

    def _reload(self) -> None:
        self._load(full=True)

    def _materialize(self) -> None:
        start = self.now - timedelta(days=1)
        with redirect_stdout(io.StringIO()):  # Feast prints what it does
            self.stores["feast"].materialize(start, self.now)

    def _emptied(self, database: int) -> None:
        with Redis(port=self.port, db=database) as client:
            client.flushdb()

    def precompute(self) -> None:
        """Feast's own one-read path, made from what its store holds."""
        from feast import FeatureService

        store = self.stores["feast"]
        view = store.get_feature_view("vector")
        service = FeatureService(name="precomputed", features=[view], precompute_online=True)
        store.apply([service])
        store.precompute_feature_service("precomputed")

    def reads(self, num_keys: int, goal: float, *, rounds: int, reads: int) -> Iterator[Comparison]:
        seconds = self._timed_reads(num_keys, rounds=rounds, reads=reads)
        ours, bare = seconds["thin"], seconds["bare"]
        rows = f"{num_keys} row{'s' if num_keys > 1 else ''} x {NUM_COLUMNS} floats from Redis, p50"
        yield Comparison(
            f"thin read, {rows}",
            *(ours * 1000, "ms", "Feast's SDK over its Redis store", seconds["feast"] * 1000),
            *(f"at most 1/{goal:g}", ours * goal <= seconds["feast"]),
        )
        yield Comparison(
            f"thin read, {rows}",
            *(ours * 1000, "ms", "bare MGET and numpy.frombuffer", bare * 1000),
            *(f"at most {THIN_GOAL:g}", ours <= THIN_GOAL * bare),
        )
        yield Comparison(
            f"Feast's SDK over our store, {rows}",
            *(seconds["sdk"] * 1000, "ms", "Feast's SDK over its Redis store"),
            *(seconds["feast"] * 1000, "none", True),
        )
        yield Comparison(
            f"thin read, {rows}",
            *(ours * 1000, "ms", "Feast's SDK, precompute_online=True"),
            *(seconds["precomputed"] * 1000, "none", True),
        )

    def _timed_reads(self, num_keys: int, *, rounds: int, reads: int) -> dict[str, float]:
        """Median over the rounds of each way's p50, in turns."""
        ways = self._ways()
        found: dict[str, list[float]] = {name: [] for name in ways}
        chosen = random.Random(1)
        for _ in range(rounds):
            for name, read in ways.items():
                asked = [chosen.sample(self.keys, num_keys) for _ in range(reads)]
                read(asked[0])
                found[name].append(statistics.median(timed(partial(read, keys)) for keys in asked))
        return {name: statistics.median(each) for name, each in found.items()}

    def _ways(self) -> dict[str, Callable[[list[str]], Any]]:
        reader = OnlineReader(self.address, clock="wall")
        client: Any = Redis(port=self.port, db=OURS)
        refs = [f"vector:{name}" for name in COLUMNS]
        columns = tuple(COLUMNS)

        def sdk(name: str, features: Any) -> Callable[[list[str]], Any]:
            store = self.stores[name]
            return lambda keys: store.get_online_features(
                features, {"user": keys}, full_feature_names=True
            )

        def bare(keys: list[str]) -> Any:
            values = client.mget([f"scale:{{{key}}}:vector" for key in keys])
            return np.frombuffer(b"".join(values), dtype=np.uint8)

        ways = {
            "bare": bare,
            "thin": lambda keys: reader.read_matrix("vector", keys, columns),
            "sdk": sdk("ours", refs),
            "feast": sdk("feast", refs),
        }
        service = self.stores["feast"].get_feature_service("precomputed")
        return {**ways, "precomputed": sdk("feast", service)}


def feast_objects(path: Path) -> list[Any]:
    """The view as a repository of Feast declares it."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64

    user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING)
    vector = FeatureView(
        name="vector",
        entities=[user],
        ttl=timedelta(days=1),
        schema=[Field(name=name, dtype=Float64) for name in COLUMNS],
        source=FileSource(name="rows", path=str(path), timestamp_field="feature_time"),
    )
    return [user, vector]


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
