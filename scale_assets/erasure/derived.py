"""The ids that other tables know a person by, from the rows that sources sent of them."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts import DerivedId
from scale_assets.erasure.person import Feed
from scale_assets.lake import Lake
from scale_assets.lake.snapshots import snapshot_dataset


def derived_ids(
    lake: Lake, feeds: Iterable[Feed], *, subject: str, ids: Iterable[str]
) -> set[tuple[str, str]]:
    """Name and value of every id that the accepted rows of these people make."""
    wanted = sorted(ids)
    return {
        (derived.name, value)
        for feed in feeds
        if lake.exists(feed.table)
        for derived in feed.contract.derived_ids
        if derived.subject == subject
        for value in _values(lake, feed, derived, wanted)
    }


def _values(lake: Lake, feed: Feed, derived: DerivedId, ids: list[str]) -> set[str]:
    subjects = feed.contract.subject_fields(derived.subject)
    is_theirs = pc.scalar(False)
    for name in subjects:
        if name in derived.parts:
            type_ = feed.contract.field(name).arrow_type
            is_theirs = is_theirs | pc.field(name).isin(_typed(ids, type_))
    parts = list(dict.fromkeys(derived.parts))
    rows = snapshot_dataset(lake.open(feed.table)).to_table(columns=parts, filter=is_theirs)
    distinct = rows.group_by(parts).aggregate([]).to_pylist()
    return {derived.of(row) for row in distinct if None not in row.values()}


def _typed(ids: list[str], type_: pa.DataType) -> pa.Array:
    """The ids that a column of this type can hold."""
    if pa.types.is_integer(type_):
        ids = [each for each in ids if each.isascii() and each.isdigit() and len(each) < 19]
    return pa.array(ids, pa.string()).cast(type_)
