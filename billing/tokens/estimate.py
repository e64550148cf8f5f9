"""Guesses for what no engine counted: marked as such, and for review before they are billed (P1, P3)."""

import msgspec

from billing.tokens.usage import Count, Provenance, TokenUsage, clamp

BYTES_PER_TOKEN = 4
"""What a tokenizer of English text averages."""


def input_tokens(body_bytes: int) -> int:
    """Tokens of input that a request body of this many bytes may hold; at least 1."""
    return max(1, body_bytes // BYTES_PER_TOKEN)


def of_what_was_seen(usage: TokenUsage, prompt_bytes: int, events: int) -> TokenUsage:
    """The usage of a stream that had begun to answer, what its engine has not told guessed from what passed.

    An event with text is taken for one token: measured on llama.cpp 0.8 % too few (protocols.md §3). Some engines put
    several tokens into one, so this is never too much. Where nothing of an answer was seen nothing is guessed.
    """
    if not events:
        return usage
    if usage.output.value is None:
        seen = max(events, usage.reasoning.value or 0)
        output = Count(seen, Provenance.ESTIMATED, "events with text that passed, a token each")
        usage = msgspec.structs.replace(usage, output=output)
    if usage.input.value is None:
        held = max(input_tokens(prompt_bytes), usage.cached_input.value or 0, usage.cache_write.value or 0)
        guess = Count(held, Provenance.ESTIMATED, f"{BYTES_PER_TOKEN} bytes of the request a token")
        usage = msgspec.structs.replace(usage, input=guess)
    return clamp(usage)
