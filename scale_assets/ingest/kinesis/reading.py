"""One run's connection to a stream: shard by shard, parents before their children."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.kinesis.client import Shard, Stream, find_stream
from scale_assets.ingest.kinesis.iterators import Iterators
from scale_assets.ingest.kinesis.records import Collected
from scale_assets.ingest.kinesis.standing import Standing, standing
from scale_assets.ingest.source import Piece, Positions, Reading

if TYPE_CHECKING:
    from scale_assets.ingest.kinesis.source import KinesisSource

ACCEPT_LOSS = "`scale ingest NAME --accept-loss`"
HEARTBEATS = 4  # per retention: how often a table learns that a quiet shard was looked at


class KinesisReading(Reading):
    """Reads every shard of the stream."""

    def __init__(self, source: "KinesisSource", client: Any) -> None:
        super().__init__()
        self.source = source
        self.client = client
        self.iterators = Iterators(client, source.stream_name, self)

    def pieces(self, taken: Positions, *, max_bytes: int) -> Iterator[Piece]:
        self.broken.clear()
        stream = find_stream(self.client, self.source.stream_name)
        known = _known(stream, taken)
        yield from self._expired(stream, known)
        remade = _remade(stream, taken)
        ended = {place for place, at in known.items() if at.is_ended}
        listed = {stream.place(shard.id) for shard in stream.shards}
        for shard in stream.shards:
            place = stream.place(shard.id)
            if place in ended or not self._may_start(stream, shard, listed, ended):
                continue
            for piece in self._shard(stream, shard, known.get(place), remade, max_bytes):
                yield piece
                if piece.positions_after[f"{place}/ended"]:
                    ended.add(place)
            if self.stopping.is_set():
                return

    def reread(self, address: list[Any]) -> Piece:
        place, before, first, after = address
        at, following = Standing.from_json(before), Standing.from_json(after)
        stream = find_stream(self.client, self.source.stream_name)
        collected = Collected(at)
        shard = place.rpartition("/")[2]
        if first is not None and stream.place(shard) == place:
            for said in self.iterators.answers(shard, int(first), inclusive=True):
                for record in said["Records"]:
                    if int(record["SequenceNumber"]) <= following.sequence:
                        collected.add(record)
                if collected.sequence >= following.sequence:
                    break
        missing = following.num_records - at.num_records - collected.num_new
        if missing:
            lost = f"{place}: {missing} records of an unfinished batch are gone"
            if not self.source.accept_loss:
                raise IngestError(f"{lost}; to go on without them: {ACCEPT_LOSS}")
            collected.notices = (f"{lost}; accepted",)
        return collected.piece(place, self.source.values, after=following)

    def acknowledge(self, taken: Positions) -> None:
        """Kinesis keeps records for its retention, whoever has read them."""

    # ------------------------------------------------------------ which shards

    def _may_start(self, stream: Stream, shard: Shard, listed: set[str], ended: set[str]) -> bool:
        """Whether all that came before this shard is taken, so that each key stays in order."""
        parents = {stream.place(parent) for parent in shard.parents}
        return not (parents & listed) - ended and not parents & self.broken.keys()

    def _expired(self, stream: Stream, known: dict[str, Standing]) -> Iterator[Piece]:
        """Shards that Kinesis forgot before they were read to their end."""
        listed = {stream.place(shard.id) for shard in stream.shards}
        for place, at in known.items():
            if place in listed or at.is_ended:
                continue
            lost = f"{place}: expired before it was read to its end"
            if self.source.accept_loss:
                ended = replace(at, is_ended=True)
                collected = Collected(at, [f"{lost}; accepted"])
                yield collected.piece(place, self.source.values, after=ended)
            else:
                self.broken[place] = f"{lost}; to go on without the rest: {ACCEPT_LOSS}"

    # ------------------------------------------------------------ one shard

    def _shard(
        self, stream: Stream, shard: Shard, known: Standing | None, remade: str, max_bytes: int
    ) -> Iterator[Piece]:
        place = stream.place(shard.id)
        at = known or Standing()
        notices = [f"{place}: {remade}"] if remade and known is None else []
        if known is not None and (lost := self._lost(stream, shard, known)):
            if not self.source.accept_loss:
                self.broken[place] = f"{place}: {lost}; to go on: {ACCEPT_LOSS}"
                return
            notices.append(f"{place}: {lost}; accepted")
        collected, now = Collected(at, notices), at
        for said in self.iterators.answers(shard.id, at.sequence):
            for record in said["Records"]:
                collected.add(record)
            now = collected.standing(
                seen_ms=max(at.seen_ms, _now_ms() - said["MillisBehindLatest"]),
                is_ended=said.get("NextShardIterator") is None,
            )
            if collected.num_bytes >= max_bytes:
                yield collected.piece(place, self.source.values, after=now)
                collected, at = Collected(now), now
        is_late = now.seen_ms - at.seen_ms > stream.retention_ms / HEARTBEATS
        if collected.num_new or collected.notices or now.is_ended != at.is_ended or is_late:
            yield collected.piece(place, self.source.values, after=now)

    def _lost(self, stream: Stream, shard: Shard, at: Standing) -> str:
        """What may have been deleted unread; empty if nothing can have been.

        Nothing was, if all was seen within the retention, or the last record taken is still there.
        """
        oldest_ms = _now_ms() - stream.retention_ms
        if at.seen_ms >= oldest_ms or self.iterators.still_has(shard.id, at.sequence):
            return ""
        hours = (oldest_ms - at.seen_ms) / 3_600_000
        return (
            f"records of {hours:.1f} hours may have been deleted before they were read: the "
            f"retention is {stream.retention_hours} hours; lengthen it"
        )


def _known(stream: Stream, taken: Positions) -> dict[str, Standing]:
    """Where the table stands in each shard of this incarnation that it has read."""
    prefix = stream.place("")
    shards = {
        name.removeprefix(prefix).partition("/")[0] for name in taken if name.startswith(prefix)
    }
    found = {stream.place(shard): standing(taken, stream.place(shard)) for shard in sorted(shards)}
    return {place: at for place, at in found.items() if at is not None}


def _remade(stream: Stream, taken: Positions) -> str:
    """What to say of an earlier stream of this name; empty if the table knows none."""
    earlier = {
        name.split("/")[1]
        for name in taken
        if name.startswith(f"{stream.name}/") and name.split("/")[1] != str(stream.created_ms)
    }
    if not earlier or any(name.startswith(stream.place("")) for name in taken):
        return ""
    return f"the stream was made again (created {', '.join(sorted(earlier))} ms before); from its start"


def _now_ms() -> int:
    return int(time.time() * 1000)
