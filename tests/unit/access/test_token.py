"""The admin token: made, hashed, compared, read from a header."""

import hashlib

import pytest

from billing.access.token import (
    LENGTH_MIN,
    RANDOM_BYTES,
    NewToken,
    bearer,
    check_hash,
    check_text,
    hash_of,
    make,
    matches,
)
from billing.errors import InvalidInput, Unauthenticated

MADE = make(bytes(range(RANDOM_BYTES)))


def test_a_token_carries_all_of_its_randomness_and_only_its_hash_is_kept() -> None:
    assert MADE.text == "adm-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert MADE.hash == hashlib.sha256(MADE.text.encode()).hexdigest()
    assert check_text(MADE.text) == MADE.text
    assert check_hash(MADE.hash) == MADE.hash
    with pytest.raises(ValueError, match="32 random bytes, got 31"):
        make(bytes(31))


def test_a_token_is_not_printed_by_accident() -> None:
    assert MADE.text not in f"{MADE!r} {MADE} {MADE.__rich_repr__()}"
    assert repr(NewToken("secret", "hash")) == "<NewToken>"


def test_only_the_token_itself_matches() -> None:
    assert matches(MADE.text, MADE.hash)
    for wrong in ("", MADE.text[:-1], MADE.text + "x", MADE.text.upper(), MADE.hash, "é"):
        assert not matches(wrong, MADE.hash)


@pytest.mark.parametrize("header", ["Bearer adm-1", "bearer adm-1", "BEARER   adm-1 "])
def test_the_scheme_is_read_in_any_case(header: str) -> None:
    assert bearer(header) == "adm-1"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", "adm-1"])
def test_whoever_sends_no_token_is_told_how(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="send it as: Authorization: Bearer adm-"):
        bearer(header)


@pytest.mark.parametrize("text", ["x" * (LENGTH_MIN - 1), "x" * 600, "x y" * 10, "é" * 20, "x\n" * 20])
def test_a_chosen_token_must_be_long_and_plain(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^BILLING_ADMIN_TOKEN: a token has ") as caught:
        check_text(text, "BILLING_ADMIN_TOKEN")
    assert text not in str(caught.value)


@pytest.mark.parametrize("text", ["", "abc", MADE.hash.upper(), MADE.hash + "0", MADE.text])
def test_what_is_no_hash_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_hash(text)
    assert not text or text not in str(caught.value)


def test_the_hash_is_that_of_the_text() -> None:
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
