"""Numbers of any size survive as 64-bit positions."""

from hypothesis import given
from hypothesis import strategies as st

from scale_assets.ingest.kinesis.standing import Standing, parts_of, standing

SEQUENCES = st.integers(min_value=0, max_value=10**129)  # the most digits that Kinesis allows
STANDINGS = st.builds(
    Standing,
    sequence=SEQUENCES,
    num_records=st.integers(0, 2**63 - 1),
    seen_ms=st.integers(0, 2**42),
    is_ended=st.booleans(),
)


@given(at=STANDINGS)
def test_what_is_written_is_read_back(at: Standing) -> None:
    positions = at.positions("s/1/shard")
    assert all(0 <= part < 2**63 for part in positions.values())
    assert standing(positions, "s/1/shard") == at
    assert standing(positions, "s/1/shar") is None
    assert Standing.from_json(at.as_json()) == at


@given(earlier=SEQUENCES, later=SEQUENCES)
def test_a_larger_number_overwrites_every_part_of_a_smaller_one(earlier: int, later: int) -> None:
    smaller, larger = sorted((earlier, later))
    assert len(parts_of(smaller)) <= len(parts_of(larger))
    held = Standing(sequence=smaller).positions("p") | Standing(sequence=larger).positions("p")
    found = standing(held, "p")
    assert found is not None
    assert found.sequence == larger
