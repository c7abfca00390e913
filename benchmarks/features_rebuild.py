"""A lost Redis: a view of a million entities brought back from the lake, as `scale load --rebuild` does.

Three rows per entity, ten columns (quick: 100,000 entities). Beside it the same values set by hand in
pipelines of 10,000, which know nothing of the lake, of what is newer, or of where a load stopped.
"""

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from redis import Redis

from benchmarks.features_online import TIME, redis_server, timed
from benchmarks.measure import Comparison, scratch_folder
from scale_assets.features.codec import to_micros
from scale_assets.features.loading import load_view
from scale_assets.features.repo import SourceDeclaration, ViewDeclaration
from scale_assets.features.stores import Backend, open_backend
from scale_assets.lake import Lake

ROWS_PER_ENTITY = 3
START_US = to_micros(datetime(2026, 1, 1, tzinfo=UTC))
MONTH_US = 30 * 86_400_000_000
PIPELINE_KEYS = 10_000
NUMBERS = tuple(f"n{i}" for i in range(8))
VIEW = ViewDeclaration(
    name="activity",
    join_keys=("user",),
    columns=(*((name, "int64") for name in NUMBERS), ("score", "float64"), ("city", "string")),
    ttl=timedelta(days=7),
    source=SourceDeclaration("activity", "feature_time", "known_at"),
)


def compare(quick: bool) -> Iterator[Comparison]:
    """Rounds of: lose everything, rebuild, and set the same bytes by hand."""
    num_entities, rounds = (100_000, 1) if quick else (1_000_000, 3)
    with scratch_folder() as folder, redis_server(folder) as port, Redis(port=port) as client:
        lake = world(folder, num_entities)
        rebuilt, by_hand = [], []
        with open_backend(f"redis://127.0.0.1:{port}/0") as backend:
            for _ in range(rounds):
                client.flushall()
                rebuilt.append(load_view(lake, VIEW, backend, full=True).seconds)
                values = stored(backend)
                if len(values) != num_entities:
                    raise AssertionError(f"{len(values):,} of {num_entities:,} entities came back")
                client.flushall()
                by_hand.append(timed(lambda: set_all(client, values)))  # noqa: B023 # at once
    median, peer = statistics.median(rebuilt), statistics.median(by_hand)
    name = f"rebuild of {num_entities:,} entities in Redis ({num_entities / median:,.0f}/s)"
    yield Comparison(name, median, "s", "the same values by SET", peer, "none", ok=True)


def world(folder: Path, num_entities: int) -> Lake:
    """Each entity at three moments of a month, in no order."""
    generator = np.random.default_rng(1)
    size = num_entities * ROWS_PER_ENTITY
    times = pa.array(START_US + generator.integers(0, MONTH_US, size), TIME)
    users = generator.permutation(np.repeat(np.arange(num_entities), ROWS_PER_ENTITY))
    rows = {
        "user": pa.array([f"user-{number}" for number in users]),
        "feature_time": times,
        "known_at": times,
        **{name: generator.integers(0, 1_000, size) for name in NUMBERS},
        "score": generator.random(size),
        "city": pa.array([f"city {number}" for number in generator.integers(0, 500, size)]),
    }
    lake = Lake(folder / "lake")
    lake.overwrite(VIEW.source.table, pa.table(rows))
    return lake


def stored(backend: Backend) -> dict[str, bytes]:
    """What the store holds, by its own names of keys."""
    found: dict[str, bytes] = {}
    for keys in backend.keys(VIEW.name):
        values = backend.get({VIEW.name: keys}).values[VIEW.name]
        pairs = zip(keys, values, strict=True)
        found.update({f"scale:{{{key}}}:{VIEW.name}": value for key, value in pairs if value})
    return found


def set_all(client: Redis, values: dict[str, bytes]) -> None:
    names = list(values)
    for start in range(0, len(names), PIPELINE_KEYS):
        with client.pipeline(transaction=False) as pipe:
            for name in names[start : start + PIPELINE_KEYS]:
                pipe.set(name, values[name])
            pipe.execute()
