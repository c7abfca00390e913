"""Whatever commits come, in whatever order, incremental loads equal the lake's latest rows."""

from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from scale_assets.features.asof import connect
from scale_assets.features.changes import find_latest
from scale_assets.features.codec import Layout
from scale_assets.features.loading import load_view
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake
from tests.features.test_loading import VIEW, append, table

days = st.integers(0, 4)
rows = st.tuples(st.sampled_from("abc"), days, days, st.integers(0, 2))
commits = st.one_of(
    st.tuples(st.just("append"), st.lists(rows, min_size=1, max_size=4)),
    st.tuples(st.just("overwrite"), st.lists(rows, max_size=4)),
    st.tuples(st.just("delete"), st.sampled_from("abc")),
    st.tuples(st.just("compact"), st.none()),
)


@settings(max_examples=40, deadline=None)
@given(history=st.lists(st.tuples(commits, st.booleans()), min_size=1, max_size=8))
def test_any_history(tmp_path_factory: pytest.TempPathFactory, history: list) -> None:
    folder = tmp_path_factory.mktemp("history")
    lake = Lake(folder / "lake")
    append(lake, table(("a", 1, 1, 1)))
    with open_backend(folder / "online.db") as backend:
        load_view(lake, VIEW, backend)
        for (kind, detail), is_loaded in history:
            commit(lake, kind, detail)
            if is_loaded:
                load_view(lake, VIEW, backend)
        load_view(lake, VIEW, backend)

        keys = [key for batch in backend.keys("clicks") for key in batch]
        found = dict(zip(keys, backend.get({"clicks": keys}).values["clicks"], strict=True))
    assert found == dict(latest(lake))


def commit(lake: Lake, kind: str, detail: object) -> None:
    handle = lake.open("features/clicks")
    if kind == "append":
        append(lake, table(*detail))
    elif kind == "overwrite":
        lake.overwrite("features/clicks", table(*detail))
    elif kind == "delete":
        handle.delete(f"\"user\" = '{detail}'")
    else:
        handle.optimize.compact()


def latest(lake: Lake) -> Iterator[tuple[str, bytes]]:
    """By the whole-snapshot query, whose meaning test_asof.py pins down."""
    whole = lake.duckdb_relation_sql("features/clicks")
    with connect() as connection:
        found = find_latest(connection, VIEW, Layout(VIEW.columns), whole)
        for part in range(found.num_parts):
            for _, packed in found.rows(part):
                yield from packed
