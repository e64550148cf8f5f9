import pytest

from billing.access.token import hash_of
from billing.dashboard import session

HASH = hash_of("adm-right")
NOW = 1_795_521_600_000_000


def test_a_cookie_signs_in_until_it_expires() -> None:
    value = session.issue(HASH, NOW, 60)
    assert session.is_valid(value, HASH, NOW)
    assert session.is_valid(value, HASH, NOW + 59_999_999)
    assert not session.is_valid(value, HASH, NOW + 60_000_000)


def test_another_admin_token_signs_everybody_out() -> None:
    assert not session.is_valid(session.issue(HASH, NOW, 60), hash_of("adm-new"), NOW)


def test_a_cookie_whose_expiry_was_changed_is_worth_nothing() -> None:
    expires, _, seal = session.issue(HASH, NOW, 60).partition(".")
    assert not session.is_valid(f"{int(expires) + 1}.{seal}", HASH, NOW)


@pytest.mark.parametrize(
    "value", [None, "", ".", "1.2", f"9999999999.{HASH}", "x" * 5_000, "９" * 10 + "." + "a" * 64]
)
def test_what_was_never_issued_is_refused(value: str | None) -> None:
    assert not session.is_valid(value, HASH, NOW)


@pytest.mark.parametrize(
    "place", ["/", "/requests/01a20c96-63a8-7bba-b644-a70c1bc3cba7", "/invoices/INV-000001"]
)
def test_after_signing_in_one_goes_where_one_wanted(place: str) -> None:
    assert session.place_of(place) == place


@pytest.mark.parametrize(
    "place",
    [
        None,
        "",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "/login",
        "/invoices/a/b",
        "/\n",
    ],
)
def test_nobody_is_sent_to_another_place(place: str | None) -> None:
    assert session.place_of(place) == "/"


def test_a_form_of_another_site_is_told_by_what_the_browser_says() -> None:
    assert session.is_own("http://here:1", "same-origin", "here:1")
    assert session.is_own(None, None, "here:1"), "a program that is no browser says nothing"
    assert not session.is_own("http://evil.example", None, "here:1")
    assert not session.is_own(None, "cross-site", "here:1")
    assert not session.is_own("null", None, "here:1")
    assert not session.is_own("http://here:1", None, None)
    assert not session.is_own("http://here:1", "none", "127.0.0.1:8091")
    assert session.is_own("https://billing.example", "same-origin", "127.0.0.1:8091"), (
        "a proxy sends another host"
    )
