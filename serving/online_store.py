"""Which online store to read, from the command line and yet without its password on it."""

import argparse
from pathlib import Path

from scale_assets.features.reader import OnlineReader, OnlineStoreError
from serving.errors import ServingError


def add_online_store(parser: argparse.ArgumentParser) -> None:
    """The options that ``open_online_store`` reads."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--online-store", help="SQLite file")
    where.add_argument(
        "--online-store-from",
        type=Path,
        help="file that holds the address, such as a Redis URL with a password; /dev/fd/N is a pipe",
    )
    parser.add_argument(
        "--clock",
        choices=["data", "wall"],
        default="data",
        help="what ages are measured against: the newest time in the data, or now",
    )


def open_online_store(options: argparse.Namespace) -> OnlineReader:
    """The store of the command line.

    Raises:
        ServingError: It is not there, or does not answer.
    """
    address = options.online_store or options.online_store_from.read_text()
    try:
        return OnlineReader(address, clock=options.clock)
    except OnlineStoreError as error:
        raise ServingError(str(error)) from error
