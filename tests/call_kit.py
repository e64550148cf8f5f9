"""Requests as calls, as short as tests want them."""

from billing.tokens.call import Asked
from billing.tokens.dialects.openai_text import TextCall, parse
from billing.tokens.dialects.routes import PATHS
from billing.tokens.operation import Operation

TEXT_PATHS = {
    route.operation: path
    for path, route in PATHS.items()
    if path in {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
}
CHAT = PATHS["/v1/chat/completions"]


def text_call(operation: Operation, body: bytes) -> TextCall:
    """The call of a body sent to the path of an operation."""
    return parse(Asked(operation, TEXT_PATHS[operation], body))
