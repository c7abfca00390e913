"""Packed values into the vectors of Feast's response, with the status of every value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from scale_assets.features.codec import Layout, times_of
from scale_assets.features.reader import OnlineReader
from scale_assets.features.values import to_proto

MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
# Looked up once: an attribute of the enum costs as much as making a value.
NOT_FOUND, PRESENT = FieldStatus.NOT_FOUND, FieldStatus.PRESENT
NULL_VALUE, OUTSIDE_MAX_AGE = FieldStatus.NULL_VALUE, FieldStatus.OUTSIDE_MAX_AGE


@dataclass(frozen=True)
class ViewAnswer:
    """What the store has of one view: a value per distinct entity, and the rows that it answers."""

    reader: OnlineReader
    view: str
    ttl: timedelta | None
    kinds: dict[str, str]
    packed: Sequence[bytes | None]
    indexes: Sequence[Sequence[int]]
    num_rows: int
    now: int


def add_answer(response: Any, answer: ViewAnswer, names: Sequence[str], *, prefix: str) -> None:
    """Append one vector per feature: values, statuses and times by row."""
    layout = Layout(tuple(answer.kinds.items()))
    values = [[Value()] * answer.num_rows for _ in names]
    statuses = [[NOT_FOUND] * answer.num_rows for _ in names]
    times = [Timestamp()] * answer.num_rows
    for data, rows in zip(answer.packed, answer.indexes, strict=True):
        if data is None:
            continue
        feature_time, _ = times_of(data)
        time = Timestamp(seconds=feature_time // SECOND_US, nanos=feature_time % SECOND_US * 1000)
        is_expired = answer.ttl is not None and answer.now - feature_time > answer.ttl / MICROSECOND
        found = {} if is_expired else answer.reader.values(layout, data, answer.now)
        for column, name in enumerate(names):
            value = found.get(name)
            status = PRESENT if value is not None else NULL_VALUE
            if is_expired:
                status = OUTSIDE_MAX_AGE
            proto = to_proto(value, answer.kinds[name])
            for row in rows:
                values[column][row] = proto
                statuses[column][row] = status
        for row in rows:
            times[row] = time
    response.metadata.feature_names.val.extend(prefix + name for name in names)
    for column_values, column_statuses in zip(values, statuses, strict=True):
        response.results.append(
            GetOnlineFeaturesResponse.FeatureVector(
                values=column_values, statuses=column_statuses, event_timestamps=times
            )
        )
