"""Where a request came from, cut short: IPv4 to its /24, IPv6 to its /48."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from serving.collector.errors import CollectorError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

IPV4_BITS, IPV6_BITS = 24, 48


def truncated(text: object) -> str | None:
    """The network that stands for an address; None where ``text`` is no address."""
    address = _address(text) if isinstance(text, str) else None
    if address is None:
        return None
    bits = IPV4_BITS if address.version == 4 else IPV6_BITS
    return str(ipaddress.ip_network((address, bits), strict=False).network_address)


class ClientAddresses:
    """Finds the client behind the proxies that we trust, and no others."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = [_network(text) for text in trusted_proxies]
        self.truncated = lru_cache(maxsize=4096)(self._truncated)

    def _truncated(self, peer: str | None, forwarded_for: bytes | None) -> str | None:
        """The client's network: the last hop of X-Forwarded-For that no trusted proxy is.

        Whoever is not trusted may write what they like into the header, so it is read from the
        right, and only while the hop that passed it on is a trusted proxy.
        """
        client = peer
        hops = forwarded_for.decode("latin-1").split(",") if forwarded_for else []
        while hops and client and self._is_trusted(client):
            client = hops.pop().strip()
        return truncated(client)

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def _address(text: str) -> Address | None:
    """An address, with the port and the brackets that some proxies write around it left out."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif "." in text and ":" in text and not text.startswith(":"):
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise CollectorError(
            f"trusted proxy {text!r}: {error}; write an address or a network such as 10.0.0.0/8"
        ) from None
