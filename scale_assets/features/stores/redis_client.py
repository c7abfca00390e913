"""From a URL to a Redis client; what is secret in the URL stays in the client."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis import Redis
from redis.cluster import RedisCluster

from scale_assets.features.stores.base import OnlineStoreError
from scale_assets.features.stores.redis_errors import REDIS_ERRORS, failed

TIMEOUT_S = 5.0
DEFAULT_NAMESPACE = "scale"


@dataclass(frozen=True)
class RedisAddress:
    """What a URL says: ``redis://``, ``rediss://`` (TLS), and each with ``+cluster``."""

    url: str  # with its password, so never to be shown
    where: str  # scheme, host, port and database
    namespace: str
    is_cluster: bool

    def __repr__(self) -> str:
        return f"RedisAddress({self.where}, namespace={self.namespace!r})"

    def connect(self) -> Any:
        """A client; a plain one connects when it is first used, a cluster's at once.

        Raises:
            OnlineStoreError: The URL has options that redis-py does not know, or nobody answers.
        """
        kind: Any = RedisCluster if self.is_cluster else Redis
        try:
            client = kind.from_url(
                self.url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
            if not self.is_cluster:
                client.connection_pool.make_connection()  # reads the options, and does no more
        except REDIS_ERRORS as error:
            raise self.failed(error) from None
        except (TypeError, ValueError) as error:
            raise OnlineStoreError(
                f"{self.where}: an option after the ? is wrong: {error}"
            ) from None
        return client

    def failed(self, error: Exception) -> OnlineStoreError:
        return failed(self.where, error)


def parse_address(url: str) -> RedisAddress:
    """Read a URL; ``namespace`` is our own option, the others are redis-py's.

    Raises:
        OnlineStoreError: It has no host, a port that is no number, or a namespace that keys cannot begin with.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    namespace = options.pop("namespace", DEFAULT_NAMESPACE)
    scheme = parts.scheme.removesuffix("+cluster")
    host = parts.hostname or ""
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise OnlineStoreError(
            f"{parts.scheme}://{host}:...: the port is no number; write {parts.scheme}://host:6379/0"
        ) from None
    where = f"{parts.scheme}://{host}{port}{parts.path}"
    if not host:
        raise OnlineStoreError(f"{where}: there is no host; write {parts.scheme}://host:6379/0")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", namespace):
        raise OnlineStoreError(
            f"{where}: namespace is {namespace!r}; use letters, digits, '_', '.' and '-'"
        )
    return RedisAddress(
        url=urlunsplit((scheme, parts.netloc, parts.path, urlencode(options), "")),
        where=where,
        namespace=namespace,
        is_cluster=parts.scheme.endswith("+cluster"),
    )
