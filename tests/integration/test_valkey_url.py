"""``REDIS_URL`` as operators write it; redis-py reads the same address in other processes."""

import ssl
from pathlib import Path

import pytest

from billing.errors import Misconfigured
from billing.infra.valkey_url import Address, address_of

PEM = Path(__file__).parents[1] / "gateway/loopback.pem"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", Address("localhost")),
        ("redis://10.0.0.1:7000/2", Address("10.0.0.1", 7000, database=2)),
        ("redis://[::1]:7000", Address("::1", 7000)),
        ("redis://:secret@h", Address("h", password="secret")),
        ("redis://me:s%40%2F%3A@h/1?db=4", Address("h", user="me", password="s@/:", database=4)),
        ("redis://h?protocol=3&health_check_interval=5", Address("h")),
        ("rediss://h:6380", Address("h", 6380, tls=True)),
        ("rediss://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required", Address("h", tls=True, certificates="/ca.pem")),
        ("unix:///run/valkey.sock", Address(path="/run/valkey.sock")),
        ("unix://:secret@/run/a%20b.sock?db=1", Address(path="/run/a b.sock", password="secret", database=1)),
    ],
)  # fmt: skip
def test_an_address_is_read(url: str, address: Address) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "REDIS_URL must be redis://"),
        ("localhost:6379", "REDIS_URL must be redis://"),
        ("http://secret@localhost", "REDIS_URL must be redis://"),
        ("redis://", "REDIS_URL must be redis://"),
        ("unix://", "REDIS_URL must be redis://"),
        ("redis://:secret@h:port", "REDIS_URL is not an address"),
        ("redis://:secret@[::1", "REDIS_URL is not an address"),
        ("redis://h/first", "the database must be a number, got 'first'"),
        ("redis://h?password=secret", "a parameter that is not known: password"),
        ("rediss://h?ssl_cert_reqs=none", "ssl_cert_reqs must be required"),
        ("redis://secret@h", "a user without a password"),
    ],
)
def test_an_address_that_cannot_be_followed_is_refused_without_its_password(url: str, sentence: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        address_of(url)
    assert sentence in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_tls_always_checks_who_answers() -> None:
    assert address_of("redis://h").tls_context() is None
    context = address_of(f"rediss://h?ssl_ca_certs={PEM}").tls_context()
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(Misconfigured, match="cannot be read"):
        address_of("rediss://h?ssl_ca_certs=/nowhere").tls_context()


def test_an_address_is_shown_without_its_password() -> None:
    address = address_of("rediss://me:secret@h:7000/3")
    assert repr(address) == "<Address h:7000 TLS db 3>"
    assert str(address.at("other", 7001)) == "other:7001"
    assert address.at("other", 7001).password == "secret"
