"""Guesses for what no engine counted: shown beside an unknown count, never billed as if it were one (P1)."""

BYTES_PER_TOKEN = 4
"""What a tokenizer of English text averages."""


def input_tokens(body_bytes: int) -> int:
    """Tokens of input that a request body of this many bytes may hold; at least 1."""
    return max(1, body_bytes // BYTES_PER_TOKEN)
