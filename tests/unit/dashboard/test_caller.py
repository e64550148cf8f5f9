"""Who sent a request: what a stranger writes into headers is not believed."""

import pytest

from billing.dashboard.caller import THIS_MACHINE, Caller, caller_of, trusted_networks
from billing.errors import Misconfigured

PROXIES = trusted_networks(("127.0.0.0/8", "10.1.0.0/16"))


def test_without_a_proxy_it_is_who_connects() -> None:
    assert caller_of("203.0.113.9", "http", "", "", THIS_MACHINE) == Caller(
        "203.0.113.9", "203.0.113.9", False
    )
    assert caller_of("203.0.113.9", "https", "", "", THIS_MACHINE).is_secure
    assert caller_of("127.0.0.1", "http", "", "", THIS_MACHINE) == Caller("127.0.0.1", "127.0.0.1", False)


def test_a_stranger_s_headers_say_nothing() -> None:
    found = caller_of("203.0.113.9", "http", "198.51.100.1", "https", THIS_MACHINE)
    assert found == Caller("203.0.113.9", "203.0.113.9", False)


def test_a_trusted_proxy_says_who_it_is_and_whether_it_speaks_tls() -> None:
    found = caller_of("127.0.0.1", "http", "198.51.100.1", "https", THIS_MACHINE)
    assert found == Caller("198.51.100.1", "198.51.100.1", True)
    assert not caller_of("127.0.0.1", "https", "198.51.100.1", "http", THIS_MACHINE).is_secure
    assert caller_of("::1", "http", "198.51.100.1", "HTTPS", THIS_MACHINE).is_secure


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("198.51.100.1, 10.1.0.7", "198.51.100.1"),
        ("198.51.100.1 ,10.1.0.7,10.1.0.8", "198.51.100.1"),
        ("10.1.0.7", "10.1.0.9"),
        ("198.51.100.1, nonsense", "10.1.0.9"),
        ("198.51.100.1," + ",".join(["10.1.0.7"] * 1_000), "10.1.0.9"),
        ("", "10.1.0.9"),
    ],
)
def test_of_a_chain_the_last_that_is_no_proxy_counts(forwarded_for: str, address: str) -> None:
    assert caller_of("10.1.0.9", "http", forwarded_for, "", PROXIES).address == address


def test_a_subscriber_of_ipv6_counts_as_one() -> None:
    clients = {
        caller_of("127.0.0.1", "http", f"2001:db8:7:8::{number:x}", "", THIS_MACHINE).client
        for number in range(1, 50)
    }
    assert clients == {"2001:db8:7:8::/64"}
    assert caller_of("::ffff:203.0.113.9", "http", "", "", THIS_MACHINE).client == "::ffff:203.0.113.9"
    assert caller_of("::ffff:127.0.0.1", "http", "198.51.100.1", "", THIS_MACHINE).address == "198.51.100.1"


def test_a_peer_without_an_address_is_one_client() -> None:
    assert (
        caller_of("an unknown address", "http", "1.2.3.4", "https", THIS_MACHINE).client
        == "an unknown address"
    )


def test_what_is_no_network_is_said() -> None:
    with pytest.raises(Misconfigured, match=r"'10\.0\.0\.1/8' is no network such as"):
        trusted_networks(["10.0.0.1/8"])
    with pytest.raises(Misconfigured, match="'proxy' is no network"):
        trusted_networks(["proxy"])
