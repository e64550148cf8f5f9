"""Who sent a request, also behind a proxy that ends TLS. Pure.

``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed only when the connection itself comes from a trusted proxy:
anybody else writes what suits him. Trusted is what runs on this machine, unless settings name other networks.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

from billing.errors import Misconfigured

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

HOPS_MAX = 16
"""Entries of ``X-Forwarded-For`` that are looked at, from its end."""
SUBSCRIBER_BITS = 64
"""An IPv6 subscriber has at least a /64 to choose addresses from (RFC 6177), so it counts as one client."""


def trusted_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks from ``10.0.0.0/8`` or a single address; raises ``Misconfigured`` naming what is none."""
    return tuple(_network(text) for text in texts)


def _network(text: str) -> Network:
    try:
        return ip_network(text.strip())
    except ValueError as fault:
        raise Misconfigured(
            f"trusted proxies: {text[:80]!r} is no network such as 10.0.0.0/8: {fault}"
        ) from None


THIS_MACHINE = trusted_networks(("127.0.0.0/8", "::1/128"))


class Caller(msgspec.Struct, frozen=True):
    """Who sent a request. ``is_secure`` says that the browser speaks TLS, with us or with the proxy before us."""

    address: str
    client: str
    """What its tries are counted by: the address, of IPv6 the network of the subscriber."""
    is_secure: bool


def caller_of(
    peer: str, scheme: str, forwarded_for: str, forwarded_proto: str, trusted: Sequence[Network]
) -> Caller:
    """The caller of a connection from ``peer`` with these two headers, empty where there are none.

    Of ``X-Forwarded-For`` the last entry that is no trusted proxy counts: those before it are the caller's own words.
    """
    near = _address(peer)
    if near is None or not _is_in(near, trusted):
        return _caller(peer, near, is_secure=scheme == "https")
    far = _beyond(forwarded_for, trusted) or near
    spoken = forwarded_proto.partition(",")[0].strip().lower() or scheme
    return _caller(str(far), far, is_secure=spoken == "https")


def _beyond(forwarded_for: str, trusted: Sequence[Network]) -> Address | None:
    """The first address before the trusted proxies, None where the header does not say."""
    for text in forwarded_for.split(",")[: -HOPS_MAX - 1 : -1]:
        found = _address(text.strip())
        if found is None or not _is_in(found, trusted):
            return found
    return None


def _caller(shown: str, address: Address | None, *, is_secure: bool) -> Caller:
    client = shown
    if isinstance(address, IPv6Address):
        client = str(IPv6Network((int(address) >> SUBSCRIBER_BITS << SUBSCRIBER_BITS, SUBSCRIBER_BITS)))
    return Caller(shown, client, is_secure)


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
