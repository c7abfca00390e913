"""While a batch is committed the next one is decoded; what comes of it comes in its place."""

import threading

import pytest

from scale_assets.ingest import files
from scale_assets.ingest.account import account
from scale_assets.ingest.ahead import one_ahead
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import Ingestion, ingest
from scale_assets.lake import Lake
from tests.ingest.conftest import event, ids, in_batches_of, lines


def test_the_next_is_prepared_while_the_caller_has_the_one_before() -> None:
    begun = [threading.Event() for _ in range(4)]

    def prepare(number: int) -> int:
        begun[number].set()
        return number * 10

    seen = []
    for result in one_ahead(prepare, range(4)):
        seen.append(result)
        if len(seen) < 4:
            assert begun[len(seen)].wait(10)
        assert not any(each.is_set() for each in begun[len(seen) + 1 :])  # and no more than one

    assert seen == [0, 10, 20, 30]


def test_an_error_comes_after_the_results_before_it() -> None:
    ahead = one_ahead(lambda number: 1 // number, [1, 1, 0, 1])

    assert [next(ahead), next(ahead)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_closing_waits_for_what_is_in_the_works_and_fetches_no_more() -> None:
    fetched, prepared = [], []

    def items():
        for number in range(10):
            fetched.append(number)
            yield number

    ahead = one_ahead(prepared.append, items())
    assert next(ahead) is None
    ahead.close()

    assert fetched == prepared == [0, 1]


def test_batches_before_one_that_cannot_be_decoded_are_committed(
    lake: Lake, feed: EventFeed, deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        deliver(f"{name}.jsonl", lines([event(ord(name))]))
    decode = EventFeed.decode

    def fails_on_c(self, contract, piece):
        if piece.place == "c.jsonl":
            raise RuntimeError("c")
        return decode(self, contract, piece)

    with monkeypatch.context() as patch:
        patch.setattr(EventFeed, "decode", fails_on_c)
        with pytest.raises(RuntimeError, match="c"):
            ingest(lake, in_batches_of(feed, 1))
    assert ids(lake) == ["e97", "e98"]

    ingest(lake, feed)

    assert ids(lake) == ["e97", "e98", "e99"]
    assert account(lake, feed).is_exact


def test_a_run_that_is_asked_to_end_commits_no_batch_that_it_had_ready(
    lake: Lake, feed: EventFeed, deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        deliver(f"{name}.jsonl", lines([event(ord(name))]))
    ingestion = Ingestion(lake, in_batches_of(feed, 1))
    with ingestion.source.reading() as reading:
        monkeypatch.setattr(reading, "acknowledge", lambda taken: taken and reading.stopping.set())
        ingestion.through(reading)

    assert ids(lake) == ["e97"]
    assert account(lake, feed).is_exact


def test_a_contract_that_changed_since_decodes_the_batch_again(
    lake: Lake, feed: EventFeed, deliver
) -> None:
    deliver("a.jsonl", lines([event(1)]) + b'{"event_id":"e2","extra":1}\n')
    ingestion = Ingestion(lake, feed)
    with ingestion.source.reading() as reading:
        ingestion.settle(reading)
        (batch,) = ingestion._batches(reading)
        ready = ingestion.prepared(batch)
        text = feed.contract_path.read_text()
        feed.contract_path.write_text(text.replace("version: 1.0.0", "version: 1.0.1"))
        ingestion.settle(reading)
        ingestion.commit(ready)

    refused = lake.read(feed.quarantine_table)
    assert refused["contract_version"].to_pylist() == ["1.0.1"]


def test_a_new_file_is_decoded_while_its_digest_is_taken(
    lake: Lake, feed: EventFeed, deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver("a.jsonl", lines([event(1)]))
    decoded = threading.Event()
    decode, digest = EventFeed.decode, files.incarnation_of
    monkeypatch.setattr(EventFeed, "decode", lambda *args: (decode(*args), decoded.set())[0])
    monkeypatch.setattr(
        files, "incarnation_of", lambda path: digest(path) if decoded.wait(10) else 0
    )

    ingest(lake, feed)

    assert decoded.is_set()
    assert ids(lake) == ["e1"]
    monkeypatch.undo()
    assert ingest(lake, feed).num_received == 0  # it was recorded with its own digest
