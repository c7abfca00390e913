"""The latest row of an entity, of those that differ only in when they became known."""

import pytest

from scale_assets.features.asof import AsOfView, connect, latest_rows

VIEW = AsOfView(
    name="clicks",
    relation="select * from rows",
    keys=(("user", "user"),),
    columns=(("clicks", "clicks"),),
    feature_time="feature_time",
    known_at="known_at",
    ttl=None,
)


@pytest.mark.parametrize(
    ("known", "clicks"),
    [
        pytest.param(["null", "'2013-03-02'"], 1, id="known wins over unknown"),
        pytest.param(["null", "'2013-03-01'"], 1, id="also if known at once"),
        pytest.param(["'2013-03-03'", "'2013-03-02'"], 0, id="known later wins"),
        pytest.param(["null", "null"], 1, id="a tie is decided by the columns"),
    ],
)
def test_of_one_feature_time_the_one_known_last(known: list[str], clicks: int) -> None:
    assert _latest(known, hide_backfills=False) == [clicks]


@pytest.mark.parametrize(
    ("known", "clicks"), [(["'2013-03-02'", "null"], [0]), (["null", "null"], [])]
)
def test_one_of_which_nobody_knows_since_when_is_left_out(
    known: list[str], clicks: list[int]
) -> None:
    assert _latest(known, hide_backfills=True) == clicks


def _latest(known: list[str], *, hide_backfills: bool) -> list[int]:
    rows = ", ".join(
        f"('a', timestamptz '2013-03-01', {known_at}::timestamptz, {i})"
        for i, known_at in enumerate(known)
    )
    with connect() as connection:
        connection.execute(
            f"create table rows as from (values {rows}) as t(user, feature_time, known_at, clicks)"
        )
        query = latest_rows(VIEW, hide_backfills=hide_backfills)
        found: list[int] = connection.sql(query).to_arrow_table()["clicks"].to_pylist()
    return found
