"""Which path is which operation in which dialect: the allow-list of what is proxied (pure)."""

from collections.abc import Callable

import msgspec

from billing.tokens.call import Asked, Call
from billing.tokens.dialects import openai_text
from billing.tokens.operation import Dialect, Operation


class Route(msgspec.Struct, frozen=True):
    """A proxied path: what it does, and how its request is read."""

    operation: Operation
    dialect: Dialect
    parse: Callable[[Asked], Call]


PATHS: dict[str, Route] = {
    "/v1/chat/completions": Route(Operation.CHAT, Dialect.OPENAI, openai_text.parse),
    "/v1/completions": Route(Operation.COMPLETIONS, Dialect.OPENAI, openai_text.parse),
    "/v1/embeddings": Route(Operation.EMBEDDINGS, Dialect.OPENAI, openai_text.parse),
}


def find(path: str) -> Route | None:
    """The route of a path; None when it is not proxied."""
    return PATHS.get(path)
