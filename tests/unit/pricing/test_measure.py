import pytest

from billing.pricing.measure import WORDS, counted, in_all, listed, one_of, unit_of
from billing.tokens.components import Component


def test_every_word_has_a_unit_and_only_tokens_are_tokens() -> None:
    assert {word: unit_of(word) for word in WORDS if unit_of(word) != "tokens"} == {
        "image": "images",
        "second": "seconds",
        "gpu_second": "GPU seconds",
        "character": "characters",
        "search": "searches",
        "request": "requests",
    }
    assert all((unit_of(part) == "tokens") == part.is_tokens for part in Component)
    assert unit_of("total") == "tokens"


@pytest.mark.parametrize(
    ("quantity", "word", "text"),
    [
        (1, "gpu_second", "1 GPU second"),
        (2, Component.SEARCH, "2 searches"),
        (1_234, Component.TRAINING, "1,234 tokens"),
        (1, "total", "1 token"),
        (0, "image", "0 images"),
    ],
)
def test_a_quantity_is_written_with_its_unit(quantity: int, word: str, text: str) -> None:
    assert counted(quantity, word) == text


def test_several_quantities_are_listed() -> None:
    units = {Component.SECOND: 12, Component.IMAGE: 1}
    assert listed(units) == "12 seconds, 1 image"
    assert in_all(1_000, units) == "1,000 tokens, 12 seconds, 1 image"
    assert (in_all(0, units), in_all(1, {}), in_all(0, {})) == (listed(units), "1 token", "0 tokens")
    assert (one_of("second"), one_of("input")) == ("second", "token")
