import pytest

from billing.errors import InvalidInput
from billing.tenants.tenant import check_name, check_slug, shown


@pytest.mark.parametrize("slug", ["ab", "acme", "acme-research-2", "a" * 63])
def test_a_slug_is_small_letters_digits_and_hyphens(slug: str) -> None:
    assert check_slug(slug) == slug


@pytest.mark.parametrize(
    "slug", ["", "a", "A", "Acme", "1acme", "-acme", "a_b", "a b", "acme\n", "ä-me", "a" * 64, "../etc"]
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(slug: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"is not a slug; write 2 to 63 small letters.*for example acme-research"
    ):
        check_slug(slug)


def test_a_name_is_for_people_and_loses_the_spaces_around_it() -> None:
    assert check_name("  Acme Inference Ltd [Köln]  ") == "Acme Inference Ltd [Köln]"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("   ", "name: a name cannot be empty"),
        ("x" * 201, "name: a name has at most 200 characters, got 201"),
        ("Acme\x1b[31m", "name: a name cannot hold line breaks or control characters"),
        ("two\nlines", "name: a name cannot hold line breaks or control characters"),
    ],
)  # fmt: skip
def test_a_name_that_would_break_a_document_is_refused(name: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_name(name)
    assert str(refused.value) == fault


def test_what_a_message_repeats_is_cut() -> None:
    assert shown("short") == "'short'"
    assert len(shown("x" * 10_000)) < 100
