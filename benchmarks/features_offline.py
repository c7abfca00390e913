"""The point-in-time join: ours, Feast's duckdb and dask stores, and a hand-written ASOF JOIN.

Five views with four features each; every store is asked through Feast for the same rows of the same
frame, and ends with an Arrow table. Feast's stores are told to hide backfills, as ours does by default, and
every answer is compared with ours. The hand-written query reads the files of our tables, and knows
the ttl but not ``known_at``; with backfills its answer is another one, and only its time is of interest.

Shapes: one entity row for each of 50,000 entities (200,000 history rows a view, so four per entity), on
histories without and with backfills (a fifth of the rows, up to 30 days late); then ten times of each.
Beside it 40 history rows and 10 entity rows for each of 5,000 entities, the shape of a training set.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.features_world import OfflineWorld, Shape
from benchmarks.measure import Comparison, run_measured, scratch_folder

DUCKDB_GOAL, DASK_GOAL = 4.0, 8.0
HAND_GOAL, HAND_LATE_GOAL = 1.25, 2.0
GROWTH, GROWTH_GOAL = 10, 12.0
MEMORY_LIMIT = "1GB"
MIB = 1 << 20


def compare(quick: bool) -> Iterator[Comparison]:
    """Every comparison of the module's text; quick takes a tenth of the rows and three runs."""
    size, repeats = (0.1, 3) if quick else (1.0, 5)
    one = Shape(num_entities=int(50_000 * size), labels=1, num_rows=int(200_000 * size))
    many = Shape(num_entities=int(5_000 * size), labels=10, num_rows=int(200_000 * size))
    with scratch_folder() as folder:
        prompt = OfflineWorld.made(folder / "prompt", one)
        yield from against_all(prompt, "without backfills", HAND_GOAL, repeats)
        late = OfflineWorld.made(folder / "late", one.with_late(0.2))
        yield from against_all(late, "with backfills", HAND_LATE_GOAL, repeats)
        for share, goal in ((0.0, HAND_GOAL), (0.2, HAND_LATE_GOAL)):
            world = OfflineWorld.made(folder / f"many-{share}", many.with_late(share))
            yield against_hand(world, f"10 rows per entity, {share:.0%} late", goal, repeats)
    yield from ten_times(one, repeats)


def against_all(
    world: OfflineWorld, what: str, hand_goal: float, repeats: int
) -> Iterator[Comparison]:
    world.check_peers()
    ways = {"ours": world.ours, "hand": world.by_hand}
    ways |= {"duckdb": world.duckdb, "dask": world.dask}
    seconds = interleaved(ways, repeats)
    name = f"point-in-time join of {world.shape}, {what}"
    for peer, goal in (("duckdb", DUCKDB_GOAL), ("dask", DASK_GOAL)):
        ok = seconds[peer] >= goal * seconds["ours"]
        text = f"peer at least {goal:g} times ours"
        yield Comparison(name, seconds["ours"], "s", f"Feast {peer}", seconds[peer], text, ok)
    yield by_hand(name, seconds, hand_goal)


def against_hand(world: OfflineWorld, what: str, goal: float, repeats: int) -> Comparison:
    seconds = interleaved({"ours": world.ours, "hand": world.by_hand}, repeats)
    return by_hand(f"point-in-time join of {world.shape}, {what}", seconds, goal)


def by_hand(name: str, seconds: dict[str, float], goal: float) -> Comparison:
    ours, hand = seconds["ours"], seconds["hand"]
    return Comparison(
        name, ours, "s", "hand-written ASOF JOIN", hand, f"at most {goal:g}", ours <= goal * hand
    )


def ten_times(shape: Shape, repeats: int) -> Iterator[Comparison]:
    """Time and memory of ten times the rows, with DuckDB's memory bounded by the store's setting."""
    seconds: dict[str, list[float]] = {"small": [], "large": []}
    with scratch_folder() as folder:
        worlds = {
            "small": OfflineWorld.made(folder / "small", shape, memory_limit=MEMORY_LIMIT),
            "large": OfflineWorld.made(
                folder / "large", shape.times(GROWTH), memory_limit=MEMORY_LIMIT
            ),
        }
        for _ in range(repeats):
            for size, world in worlds.items():
                seconds[size].append(timed(world.ours))
        peak = run_measured([sys.executable, "-m", __name__, str(worlds["large"].folder)])
    large, small = (statistics.median(seconds[size]) for size in ("large", "small"))
    yield Comparison(
        f"{GROWTH} times the rows, memory_limit {MEMORY_LIMIT}",
        large,
        "s",
        f"{shape}",
        small,
        f"at most {GROWTH_GOAL:g}",
        large <= GROWTH_GOAL * small,
    )
    before, result = (int(value) for value in peak.output.split()[-2:])
    bound = before + result + 1000 * 1000 * 1000  # as DuckDB writes a GB
    yield Comparison(
        f"peak memory of {GROWTH} times the rows, memory_limit {MEMORY_LIMIT}",
        peak.peak_memory_bytes / MIB,
        "MiB",
        "the process before, the result and the limit",
        bound / MIB,
        "at most 1.1",
        peak.peak_memory_bytes <= 1.1 * bound,
    )


def interleaved(ways: dict[str, Callable[[], pa.Table]], repeats: int) -> dict[str, float]:
    """The median seconds of each way, one after the other in each round."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            seconds[way].append(timed(run))
    return {way: statistics.median(taken) for way, taken in seconds.items()}


def timed(run: Callable[[], pa.Table]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """A process of its own for the peak memory: prints what it held before, and the result's size."""
    import psutil

    world = OfflineWorld(Path(sys.argv[1]), memory_limit=MEMORY_LIMIT)
    before = psutil.Process().memory_info().rss
    result = world.ours()
    print(before, result.nbytes)


if __name__ == "__main__":
    main()
