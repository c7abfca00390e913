"""Addresses are cut short, and only proxies that we trust may say whose they are."""

import ipaddress

import hypothesis.strategies as st
import pytest
from hypothesis import given

from serving.collector.addresses import ClientAddresses, truncated
from serving.collector.errors import CollectorError


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("203.0.113.77:5000", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("[2001:db8:1:2::6]:443", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
        ("fe80::1%eth0", "fe80::"),
        ("unknown", None),
        ("", None),
        (None, None),
        (7, None),
        ("203.0.113.777", None),
    ],
)
def test_an_address_becomes_its_network(text: object, network: str | None) -> None:
    assert truncated(text) == network


@given(address=st.ip_addresses())
def test_what_is_cut_off_cannot_be_told(address: ipaddress.IPv4Address) -> None:
    found = ipaddress.ip_address(truncated(str(address)) or "")
    kept = 24 if found.version == 4 else 48

    assert int(found) % 2 ** (found.max_prefixlen - kept) == 0


PROXY, INNER, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.77"
NETWORK = "203.0.113.0"


@pytest.mark.parametrize(
    ("peer", "header", "network"),
    [
        pytest.param(CLIENT, None, NETWORK, id="nobody between"),
        pytest.param(PROXY, CLIENT, NETWORK, id="a trusted proxy says who"),
        pytest.param(PROXY, f"{CLIENT}, {INNER}", NETWORK, id="through two of them"),
        pytest.param(
            PROXY, f"192.0.2.9, {CLIENT}", NETWORK, id="what the client wrote is not read"
        ),
        pytest.param(CLIENT, "192.0.2.9", NETWORK, id="a client that is no proxy says nothing"),
        pytest.param(PROXY, None, "10.0.0.0", id="a proxy that says nothing"),
        pytest.param(PROXY, "unknown", None, id="a proxy that does not know"),
        pytest.param(None, CLIENT, None, id="no address at all"),
        pytest.param(PROXY, f"[2001:db8::1]:9, {INNER}", "2001:db8::", id="IPv6 with a port"),
    ],
)
def test_the_client_is_the_last_hop_that_is_not_trusted(
    peer: str | None, header: str | None, network: str | None
) -> None:
    addresses = ClientAddresses(["10.0.0.0/8"])

    assert addresses.truncated(peer, None if header is None else header.encode()) == network


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(CollectorError, match=r"10\.0\.0\.1/8"):
        ClientAddresses(["10.0.0.1/8"])
