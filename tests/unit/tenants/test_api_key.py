import hashlib
import re
import timeit

import pytest

from billing.errors import InvalidInput, Unauthenticated
from billing.tenants import api_key
from billing.tenants.api_key import ApiKey, KeyState
from tests.invoice_kit import KEY, TENANT, at

RANDOM = bytes(range(api_key.RANDOM_BYTES))
MADE = api_key.make(RANDOM)
NOW = at("2026-11-24T10:00:00Z")
FINGERPRINT_SECONDS_MAX = 20e-6
"""Ten times what it may cost on an idle machine: a loaded one must not fail the test, a lookup must."""


def test_a_key_has_a_mark_a_visible_part_256_random_bits_and_a_checksum() -> None:
    assert re.fullmatch(r"sk-[0-9A-Za-z]{8}[0-9A-Za-z]{43}[0-9a-f]{8}", MADE.text)
    assert MADE.prefix == MADE.text[:11]
    assert MADE.hash == hashlib.sha256(MADE.text.encode()).digest()


def test_the_same_randomness_makes_the_same_key_and_each_bit_of_it_another() -> None:
    assert api_key.make(RANDOM) == MADE
    others = {
        api_key.make(bytes([*RANDOM[:place], RANDOM[place] ^ 1, *RANDOM[place + 1 :]])).text
        for place in range(len(RANDOM))
    }
    assert len(others | {MADE.text}) == len(RANDOM) + 1


def test_all_bits_set_still_fit_43_digits() -> None:
    text = api_key.make(b"\xff" * api_key.RANDOM_BYTES).text
    assert len(text) == api_key.KEY_LENGTH
    assert api_key.fingerprint(text) is not None


def test_short_randomness_makes_no_key() -> None:
    with pytest.raises(ValueError, match="a key needs 38 random bytes, got 37"):
        api_key.make(RANDOM[1:])


def test_the_text_is_neither_in_repr_nor_in_str() -> None:
    assert repr(MADE) == f"<NewKeyText {MADE.prefix}…>"
    assert MADE.text not in f"{MADE} {[MADE]} {MADE.__rich_repr__()}"


@pytest.mark.parametrize("key", [MADE.text, MADE.text.encode()], ids=["text", "bytes"])
def test_a_well_formed_key_has_its_hash_as_fingerprint(key: bytes | str) -> None:
    assert api_key.fingerprint(key) == MADE.hash
    assert api_key.parse(MADE.text) == MADE.hash


def test_any_single_changed_character_is_noticed_before_anything_is_looked_up() -> None:
    for place, character in enumerate(MADE.text):
        changed = MADE.text[:place] + ("A" if character != "A" else "B") + MADE.text[place + 1 :]
        assert api_key.fingerprint(changed) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no API key was sent; send it as: Authorization: Bearer sk-…"),
        ("Bearer secret", "this is not an API key of this service: its keys begin with sk-"),
        (f'"{MADE.text}"', "this is not an API key of this service: its keys begin with sk-"),
        (f"{MADE.text}\n", "the API key holds characters that no key has: look for quotes, spaces or line breaks around it"),
        ("sk-ключ", "the API key holds characters that no key has: look for quotes, spaces or line breaks around it"),
        (MADE.text[:40], "the API key has 40 characters where every key has 62: it was not copied whole"),
        (MADE.text[:-1] + "g", "the API key's checksum does not fit: it was mistyped or changed"),
    ],
)  # fmt: skip
def test_a_malformed_key_is_refused_with_what_is_wrong_and_without_repeating_it(
    text: str, sentence: str
) -> None:
    assert api_key.fingerprint(text) is None
    with pytest.raises(Unauthenticated) as refused:
        api_key.parse(text)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 62, "\ud800" * 62, "sk-" + "é" * 59, b"sk-" + b"0" * 59])
def test_garbage_has_no_fingerprint(garbage: bytes | str) -> None:
    assert api_key.fingerprint(garbage) is None


def test_a_fingerprint_costs_microseconds() -> None:
    key, calls = MADE.text.encode(), 2_000
    seconds = min(timeit.repeat(lambda: api_key.fingerprint(key), number=calls, repeat=5)) / calls
    assert seconds < FINGERPRINT_SECONDS_MAX


@pytest.mark.parametrize(
    ("expires", "revoked", "state"),
    [
        pytest.param(None, None, KeyState.ACTIVE, id="a key without an end is active"),
        pytest.param(NOW + 1, None, KeyState.ACTIVE, id="active until its expiry"),
        pytest.param(NOW, None, KeyState.EXPIRED, id="expired from the very instant"),
        pytest.param(None, NOW, KeyState.REVOKED, id="revoked from the very instant"),
        pytest.param(NOW, NOW, KeyState.REVOKED, id="revoked wins over expired"),
    ],
)
def test_a_key_s_state_at_an_instant(expires: int | None, revoked: int | None, state: KeyState) -> None:
    key = ApiKey(KEY, TENANT, None, "ci", MADE.prefix, NOW, expires_at_us=expires, revoked_at_us=revoked)
    assert key.state(NOW) is state


def test_an_expiry_lies_ahead() -> None:
    assert api_key.check_expiry(None, NOW) is None
    assert api_key.check_expiry(NOW + 1, NOW) == NOW + 1
    with pytest.raises(InvalidInput, match="2026-11-24T10:00:00Z has passed already"):
        api_key.check_expiry(NOW, NOW)


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({f"tag{number}": "" for number in range(17)}, "tags: a key has at most 16 tags, got 17"),
        ({"1st": "x"}, "tags: '1st' is not a tag name; write for example team"),
        ({"team": "x\ny"}, "tags.team: a value has at most 128 printable bytes"),
        ({"team": "ü" * 65}, "tags.team: a value has at most 128 printable bytes"),
    ],
)  # fmt: skip
def test_tags_are_few_short_and_plainly_named(tags: dict[str, str], fault: str) -> None:
    assert api_key.check_tags({"team": "search", "cost-center": "42"}) == {
        "team": "search",
        "cost-center": "42",
    }
    with pytest.raises(InvalidInput) as refused:
        api_key.check_tags(tags)
    assert str(refused.value) == fault
