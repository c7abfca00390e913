"""Views over streams in a historical retrieval: as of each row's time, beside the joined views."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.features.asof import AsOfJoinError
from scale_assets.features.streaming.declared import StreamingView
from scale_assets.features.streaming.recompute import values_as_of

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class StreamColumns:
    """What a retrieval asks of one view, whose join keys are named as the entity rows name them."""

    view: StreamingView
    events: str  # a SELECT of the stream's table
    features: tuple[tuple[str, str], ...]  # (feature, name in the result)
    alias: str


def with_streams(
    connection: "duckdb.DuckDBPyConnection",
    joined: pa.Table,
    streams: Sequence[StreamColumns],
    *,
    time: str,
    with_times: bool,
) -> pa.Table:
    """The rows with the streams' features appended, as of their ``time``.

    Raises:
        AsOfJoinError: Two columns of the result would share a name.
    """
    for stream in streams:
        keys = [key.name for key in stream.view.columns.keys]
        found = values_as_of(
            connection,
            stream.view.aggregates,
            stream.events,
            joined.select([*keys, time]),
            columns=stream.view.columns,
            time=time,
        )
        wanted = list(stream.features)
        if with_times:
            wanted += [(kind, f"{stream.alias}__{kind}") for kind in ("feature_time", "known_at")]
        for feature, name in wanted:
            if name in joined.column_names:
                raise AsOfJoinError(
                    f"two columns would be called {name!r} (view {stream.alias!r}); leave it out "
                    "of the entity rows or ask for full feature names"
                )
            joined = joined.append_column(name, found[feature])
    return joined
