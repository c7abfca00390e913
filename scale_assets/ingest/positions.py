"""Where a table stands, kept as Delta transactions in the rows' own commits.

``<stream>/<position>`` is a source's own position, as its transport names it (see ``source.py``);
``<stream>#<counter>`` a total of the stream: batch, received, duplicates, ignored.
"""

from collections.abc import Mapping

from deltalake import DeltaTable

from scale_assets.ingest.source import Positions
from scale_assets.lake.transactions import transactions


def counter_app(stream: str, counter: str) -> str:
    return f"{stream}#{counter}"


def counter(handle: DeltaTable, stream: str, name: str) -> int:
    return int(handle.transaction_version(counter_app(stream, name)) or 0)


def taken(handle: DeltaTable, stream: str) -> dict[str, int]:
    """What the table's snapshot holds of the stream's source."""
    prefix = f"{stream}/"
    return {
        app.removeprefix(prefix): version
        for app, version in transactions(handle).items()
        if app.startswith(prefix)
    }


def apps(stream: str, positions: Positions) -> Mapping[str, int]:
    """A source's positions under the names that the table's transactions have."""
    return {f"{stream}/{position}": version for position, version in positions.items()}
