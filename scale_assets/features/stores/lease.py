"""A lease in Redis: one holder at a time, and none for long once its holder is dead."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from scale_assets.features.stores.base import OnlineStoreError
from scale_assets.features.stores.redis_errors import REDIS_ERRORS

LEASE_S = 30.0
POLL_S = 0.2
_IF_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_RENEW = _IF_MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = _IF_MINE + "return redis.call('DEL', KEYS[1])"


@contextmanager
def lease(client: Any, key: str, *, what: str) -> Iterator[Callable[[], None]]:
    """Hold ``key``; gives a check that asks the server, and raises where it is ours no more.

    A holder on this machine whose process is gone is not waited for.

    Raises:
        RedisError: The server does not answer, or refuses.
    """
    token = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
    lease_ms = int(LEASE_S * 1000)
    while not client.set(key, token, nx=True, px=lease_ms):
        _release_dead(client, key)
        time.sleep(POLL_S)
    ended = threading.Event()

    def renewed() -> bool:
        return bool(client.eval(_RENEW, 1, key, token, lease_ms))

    def renew() -> None:
        while not ended.wait(LEASE_S / 3):
            with suppress(*REDIS_ERRORS):  # the check will tell
                if not renewed():
                    return

    def check() -> None:
        if not renewed():
            raise OnlineStoreError(
                f"{what} was taken over by another process, or the server lost what it held; run again"
            )

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield check
    finally:
        ended.set()
        renewing.join()
        with suppress(*REDIS_ERRORS):  # it ends by itself; the error of the load is the one to tell
            client.eval(_RELEASE, 1, key, token)


def _release_dead(client: Any, key: str) -> None:
    held = client.get(key)
    if held is None:
        return
    host, pid, _ = held.decode().split(" ")
    if host == socket.gethostname() and not _is_alive(int(pid)):
        client.eval(_RELEASE, 1, key, held)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
