"""What the UI may show of a refused line: why it was refused, and no personal data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scale_assets.contracts import parse_contract
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.quarantine import MAX_SHOWN_CHARS, masked, summarize
from scale_assets.lake import Lake
from tests.ingest.conftest import CONTRACT, event, folder_of, lines

PERSONAL = '      - {name: email, logicalType: string, tags: ["pii:email"]}\n'
CONTRACT_WITH_PII = parse_contract(CONTRACT.format(version="1.0.0", more=PERSONAL), source="test")
SECRET = "ada@example.org"


def test_reasons_are_counted_and_sampled(lake: Lake, feed: EventFeed) -> None:
    (folder_of(feed) / "a.jsonl").write_bytes(
        lines([event(1), *(event(n, num_clicks=0) for n in range(2, 6)), event(7, color="red")])
        + b"not json\n"
    )
    ingest(lake, feed)
    contract, _ = feed.load_contract()

    summary = summarize(contract, lake.open(feed.quarantine_table))

    assert summary.num_lines == 6
    assert [(each.rule, each.field, each.num_lines) for each in summary.reasons] == [
        ("out_of_range", "num_clicks", 4),
        ("not_json", None, 1),
        ("unknown_column", "color", 1),
    ]
    assert {each.contract_versions for each in summary.reasons} == {("1.0.0",)}
    assert [each.position for each in summary.samples] == [1, 2, 6, 5]
    assert '"num_clicks": 0' in summary.samples[0].masked
    assert summary.samples[2].masked == "<8 bytes that are not JSON>"


@pytest.mark.parametrize(
    "line",
    [
        {"email": SECRET, "num_clicks": "many"},
        {"Email": SECRET},
        {"unknown": {"email": SECRET, "event_id": "e1"}},
        {"unknown": [SECRET, {"email": SECRET}]},
        {"before": None, "after": {"email": SECRET}, "source": {"lsn": 7}, "op": "c"},
        {"num_clicks": [SECRET]},
        [SECRET],
        SECRET,
    ],
)
def test_personal_and_unknown_values_are_masked(line: object) -> None:
    shown = masked(CONTRACT_WITH_PII, json.dumps(line).encode())

    assert "ada" not in shown


def test_what_the_contract_does_not_call_personal_is_shown() -> None:
    shown = masked(CONTRACT_WITH_PII, b'{"event_id": "e1", "num_clicks": "many", "email": 5}')

    assert json.loads(shown) == {"event_id": "e1", "num_clicks": "many", "email": "<integer>"}


def test_a_cut_line_shows_nothing_of_itself() -> None:
    assert "ada" not in masked(CONTRACT_WITH_PII, b'{"email": "ada@example.org", "num_c')


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.floats() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("email"), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_line_can_be_shown_and_stored(raw: bytes) -> None:
    shown = masked(CONTRACT_WITH_PII, raw)

    assert len(shown) <= MAX_SHOWN_CHARS
    assert shown.encode()


def test_deep_nesting_is_no_error() -> None:
    assert masked(CONTRACT_WITH_PII, b"[" * 100_000).startswith("<100000 bytes")
    assert masked(CONTRACT_WITH_PII, b'{"a":' * 900 + b"1" + b"}" * 900)
