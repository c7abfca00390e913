"""Where packed values are kept: one small interface, a backend per kind of store."""

from pathlib import Path

from scale_assets.features.stores.base import (
    Backend,
    Clock,
    Found,
    OnlineStoreError,
    Outcome,
    PackedRow,
    Progress,
    Put,
    Snapshot,
    ViewInfo,
)

__all__ = [
    "Backend",
    "Clock",
    "Found",
    "OnlineStoreError",
    "Outcome",
    "PackedRow",
    "Progress",
    "Put",
    "Snapshot",
    "ViewInfo",
    "open_backend",
]

REDIS_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster")


def open_backend(address: str | Path, *, clock: Clock = "data") -> Backend:
    """The store at an address: a path or sqlite:///path, or a Redis URL.

    Where the clock is the wall's, Redis deletes values that are long expired.

    Raises:
        OnlineStoreError: No backend has such addresses.
    """
    scheme, separator, rest = str(address).partition("://")
    if not separator:
        return _sqlite(address, clock)
    if scheme == "sqlite":
        return _sqlite(rest.removeprefix("/"), clock)
    if scheme in REDIS_SCHEMES:
        from scale_assets.features.stores.redis import RedisBackend

        return RedisBackend(str(address), clock=clock)
    raise OnlineStoreError(
        f"online store {scheme}://... is none that we know; use a path, or one of "
        f"{', '.join(f'{known}://' for known in ('sqlite', *REDIS_SCHEMES))}"
    )


def _sqlite(path: str | Path, clock: Clock) -> Backend:
    from scale_assets.features.stores.sqlite import SqliteBackend

    return SqliteBackend(path, clock=clock)
