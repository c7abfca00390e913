"""What a user reads where Redis refuses or is gone: one line, without commands, keys or passwords."""

import re

from redis import exceptions
from redis.exceptions import RedisClusterException, RedisError

from scale_assets.features.stores.base import OnlineStoreError

REDIS_ERRORS = (RedisError, RedisClusterException)  # the latter is none of the former

_SEE_GUIDE = "see docs/guides/features.md"
_WAYS_OUT: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "give its user and password in SCALE_ONLINE_STORE_URL"),
    (exceptions.NoPermissionError, f"grant the user what it needs, {_SEE_GUIDE}"),
    (exceptions.ReadOnlyError, "name the primary in SCALE_ONLINE_STORE_URL, not a replica"),
    (
        exceptions.OutOfMemoryError,
        "raise its maxmemory and run again; what was written stays, and the rest follows",
    ),
    (exceptions.BusyLoadingError, "run again once it has read its own data"),
    (exceptions.ConnectionError, "see SCALE_ONLINE_STORE_URL, and that the server is up"),
    (exceptions.TimeoutError, "see SCALE_ONLINE_STORE_URL, and that the server is up"),
    (
        RedisClusterException,
        "see SCALE_ONLINE_STORE_URL, and that every node is up; a single server is redis://",
    ),
)
_ABOUT_OUR_COMMAND = re.compile(
    r"^Command # \d+ .* of pipeline caused error: |\.? script: [0-9a-f]{40}, on @user_script:\d+\.?$",
    re.DOTALL,
)


def failed(where: str, error: Exception) -> OnlineStoreError:
    """What Redis said, at which address, and what to do about it."""
    said = _ABOUT_OUR_COMMAND.sub("", str(error)).rstrip(".")
    ways = (way for kind, way in _WAYS_OUT if isinstance(error, kind))
    return OnlineStoreError(f"{where}: {said}; {next(ways, 'see SCALE_ONLINE_STORE_URL')}")
