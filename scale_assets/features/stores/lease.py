"""A lease in Redis: one holder at a time, and none for long once its holder is dead."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis import RedisError

from scale_assets.features.stores.base import OnlineStoreError

LEASE_S = 30.0
POLL_S = 0.2
_IF_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_RENEW = _IF_MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = _IF_MINE + "return redis.call('DEL', KEYS[1])"


@contextmanager
def lease(client: Any, key: str, *, what: str) -> Iterator[Callable[[], None]]:
    """Hold ``key``; gives a check that raises once somebody else holds it.

    A holder on this machine whose process is gone is not waited for.
    """
    token = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
    lease_ms = int(LEASE_S * 1000)
    while not client.set(key, token, nx=True, px=lease_ms):
        _release_dead(client, key)
        time.sleep(POLL_S)
    ended, lost = threading.Event(), threading.Event()

    def renew() -> None:
        held_until = time.monotonic() + LEASE_S
        while not ended.wait(LEASE_S / 3):
            try:
                if not client.eval(_RENEW, 1, key, token, lease_ms):
                    lost.set()
                    return
                held_until = time.monotonic() + LEASE_S
            except RedisError:
                if time.monotonic() > held_until:
                    lost.set()
                    return

    def check() -> None:
        if lost.is_set():
            raise OnlineStoreError(f"{what} was taken over by another process; run again")

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield check
    finally:
        ended.set()
        renewing.join()
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
