"""Guesses are whole, at least one token, and never shrink as the text grows."""

import pytest

from billing.tokens.estimate import BYTES_PER_TOKEN, input_tokens


@pytest.mark.parametrize(
    ("size", "tokens"),
    [(0, 1), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (4_000, 1_000), (10 << 20, 2_621_440)],
)
def test_four_bytes_a_token_rounded_down_but_at_least_one(size: int, tokens: int) -> None:
    assert BYTES_PER_TOKEN == 4
    assert input_tokens(size) == tokens
