"""A snapshot feed: the newest whole file replaces its table, atomically and only if it is sound."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from scale_assets.contracts import Contract, Mode, Validated, parse_contract, validate_lines
from scale_assets.ingest.columns import SOURCE_FILE
from scale_assets.ingest.contract_history import ContractHistory
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.files import FeedFile, check_whole, identify, list_files, open_lines
from scale_assets.ingest.suppression import SuppressionList, without_forgotten
from scale_assets.lake import Lake


@dataclass(frozen=True, kw_only=True)
class SnapshotFeed:
    """Where whole copies of one source table arrive, and which table shows the newest."""

    name: str
    folder: Path
    contract_path: Path
    table: str
    quarantine_table: str
    max_quarantined_fraction: float = 0.0
    min_row_ratio: float = 0.5
    compatibility: Mode = Mode.BACKWARD_TRANSITIVE


@dataclass(frozen=True, kw_only=True)
class SnapshotReport:
    """What one run did; counts are of the file that the table now shows."""

    file_name: str
    version: int
    num_received: int
    num_accepted: int
    num_quarantined: int
    num_rows_before: int | None
    added_columns: list[str]
    removed_columns: list[str]
    is_replaced: bool


def ingest_snapshot(lake: Lake, feed: SnapshotFeed) -> SnapshotReport:
    """Show the newest file (by name) in the table; with nothing newer, change nothing.

    Raises:
        IngestError: No file yet, or too many of its rows break the contract, or too few rows
            compared with the table's, or a contract that may not follow the earlier ones. The
            table then keeps what it shows.
    """
    text = feed.contract_path.read_text(encoding="utf-8")
    contract = parse_contract(text, source=str(feed.contract_path))
    history = ContractHistory(lake, feed.name)
    history.refuse_breaking(contract, text, feed.compatibility, source=str(feed.contract_path))
    newest = _newest(feed)
    app_id = f"{feed.name}/snapshot"
    before = lake.last_metadata(feed.table) if lake.exists(feed.table) else {}
    if (
        before.get("file_name") == newest.name
        and before.get("contract_version") == contract.version
        and lake.position(feed.table, app_id) == newest.incarnation
    ):
        return SnapshotReport(
            version=lake.version(feed.table), is_replaced=False, **before["report"]
        )
    found = _without_forgotten(lake, contract, _validate(contract, newest))
    num_rows_before = lake.num_rows(feed.table) if before else None
    history.record(contract, text)
    _quarantine(lake, feed, found, newest, contract)
    _refuse_unsound(feed, found, newest, num_rows_before)
    rows = found.accepted.drop_columns(["_position"]).append_column(
        SOURCE_FILE, pa.repeat(pa.scalar(newest.name), found.accepted.num_rows)
    )
    columns_before = lake.schema(feed.table).names if before else rows.column_names
    report = {
        "file_name": newest.name,
        "num_received": found.num_received,
        "num_accepted": found.accepted.num_rows,
        "num_quarantined": found.quarantined.num_rows,
        "num_rows_before": num_rows_before,
        "added_columns": [name for name in rows.column_names if name not in columns_before],
        "removed_columns": [name for name in columns_before if name not in rows.column_names],
    }
    version = lake.overwrite(
        feed.table,
        rows,
        positions={app_id: newest.incarnation},
        metadata={
            "file_name": newest.name,
            "contract_version": contract.version,
            "report": report,
        },
    )
    return SnapshotReport(version=version, is_replaced=True, **report)


def _newest(feed: SnapshotFeed) -> FeedFile:
    files = list_files(feed.folder)
    if not files:
        raise IngestError(f"no snapshot of {feed.name} in {feed.folder} yet; deliver a file")
    with ThreadPoolExecutor(1) as digests:
        newest = identify(files[-1], digests=digests)
        check_whole(newest)
    return newest


def _validate(contract: Contract, file: FeedFile) -> Validated:
    with open_lines(file) as stream:
        return validate_lines(contract, stream.read(), unique=True)


def _without_forgotten(lake: Lake, contract: Contract, found: Validated) -> Validated:
    """As if the file had never had the rows of people on the suppression list."""
    forgotten = SuppressionList(lake).newest()
    if forgotten is None or not contract.subject_fields():
        return found
    accepted, quarantined = without_forgotten(
        contract, found.accepted, found.quarantined, forgotten
    )
    return replace(
        found,
        accepted=accepted,
        quarantined=quarantined,
        num_received=accepted.num_rows + quarantined.num_rows,
    )


def _quarantine(
    lake: Lake, feed: SnapshotFeed, found: Validated, file: FeedFile, contract: Contract
) -> None:
    """Keep every refused row of the newest file, before the table changes."""
    num_rows = found.quarantined.num_rows
    rows = found.quarantined.append_column(
        SOURCE_FILE, pa.repeat(pa.scalar(file.name), num_rows)
    ).append_column("contract_version", pa.repeat(pa.scalar(contract.version), num_rows))
    lake.append_once(
        feed.quarantine_table,
        rows,
        positions={f"{feed.name}/{file.name}/{contract.version}": file.incarnation},
    )


def _refuse_unsound(
    feed: SnapshotFeed, found: Validated, file: FeedFile, num_rows_before: int | None
) -> None:
    allowed = feed.max_quarantined_fraction * found.num_received
    if found.quarantined.num_rows > allowed:
        reasons = found.quarantined["reason"].slice(0, 3).to_pylist()
        raise IngestError(
            f"{file.path}: {found.quarantined.num_rows} of {found.num_received} rows break the "
            f"contract (allowed: {allowed:g}), such as {reasons}; they are in "
            f"{feed.quarantine_table}, and {feed.table} keeps its last snapshot"
        )
    if num_rows_before and found.accepted.num_rows < feed.min_row_ratio * num_rows_before:
        raise IngestError(
            f"{file.path}: {found.accepted.num_rows} rows where {feed.table} has "
            f"{num_rows_before}; fewer than min_row_ratio={feed.min_row_ratio} of them. "
            "If that is right, lower min_row_ratio for one run"
        )
