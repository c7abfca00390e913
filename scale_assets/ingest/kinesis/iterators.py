"""Shard iterators: made where a table stands, kept between passes, made again when they expire."""

import time
from collections.abc import Iterator
from typing import Any

from scale_assets.ingest.kinesis.client import call
from scale_assets.ingest.source import Reading

RECORDS_PER_CALL = 10_000  # the most that Kinesis gives
PAUSE_SECONDS = 0.2  # after a call that brings nothing: five a second and shard are allowed


class Iterators:
    """Reads the shards of one stream."""

    def __init__(self, client: Any, stream_name: str, reading: Reading) -> None:
        self.client = client
        self.stream_name = stream_name
        self.reading = reading  # says when to wait for no more
        self._kept: dict[str, tuple[int, str]] = {}  # by shard: after which record, and how

    def answers(
        self, shard: str, sequence: int, *, inclusive: bool = False
    ) -> Iterator[dict[str, Any]]:
        """What ``get_records`` says after a record (0: from the oldest), until it is caught up.

        One that says no ``NextShardIterator`` is the last of a shard that is closed.
        """
        started = time.time()
        iterator: str | None = self._iterator(shard, sequence, inclusive=inclusive)
        while iterator is not None and not self.reading.stopping.is_set():
            said = self._records(shard, iterator, sequence, inclusive=inclusive)
            records, iterator = said["Records"], said.get("NextShardIterator")
            if records:
                sequence, inclusive = int(records[-1]["SequenceNumber"]), False
            if iterator is not None:
                self._kept[shard] = (sequence, iterator)
            yield said
            is_new = records and records[-1]["ApproximateArrivalTimestamp"].timestamp() >= started
            if said["MillisBehindLatest"] == 0 or is_new:
                return
            if not records:
                self.reading.stopping.wait(PAUSE_SECONDS)

    def still_has(self, shard: str, sequence: int) -> bool:
        """Whether the record of this number has not been deleted."""
        from botocore.exceptions import ClientError  # type: ignore[import-untyped]

        if not sequence:
            return False
        try:
            iterator = self._new(shard, sequence, inclusive=True)
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidArgumentException":
                return False  # it names a record that the shard no longer knows
            raise
        found = call(self.client.get_records, ShardIterator=iterator, Limit=1)["Records"]
        return bool(found) and int(found[0]["SequenceNumber"]) == sequence

    def _records(
        self, shard: str, iterator: str, sequence: int, *, inclusive: bool
    ) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        try:
            return call(self.client.get_records, ShardIterator=iterator, Limit=RECORDS_PER_CALL)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExpiredIteratorException":
                raise
        again = self._new(shard, sequence, inclusive=inclusive)
        return call(self.client.get_records, ShardIterator=again, Limit=RECORDS_PER_CALL)

    def _iterator(self, shard: str, sequence: int, *, inclusive: bool) -> str:
        after, kept = self._kept.pop(shard, (None, ""))
        if after == sequence and not inclusive:
            return kept
        return self._new(shard, sequence, inclusive=inclusive)

    def _new(self, shard: str, sequence: int, *, inclusive: bool) -> str:
        place: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}
        if sequence:
            kind = "AT_SEQUENCE_NUMBER" if inclusive else "AFTER_SEQUENCE_NUMBER"
            place = {"ShardIteratorType": kind, "StartingSequenceNumber": str(sequence)}
        said = call(
            self.client.get_shard_iterator, StreamName=self.stream_name, ShardId=shard, **place
        )
        return str(said["ShardIterator"])
