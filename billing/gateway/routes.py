"""The allow-list of proxied paths: an engine's other routes can never be reached through the gateway (pure)."""

from urllib.parse import unquote

import msgspec

from billing.errors import NotFound, WrongMethod
from billing.gateway.ollama_catalog import PS_PATH, TAGS_PATH, VERSION_PATH
from billing.tokens.dialects.routes import PATHS, Route, find
from billing.tokens.operation import Dialect

MODELS_PATH = "/v1/models"
OLLAMA_PATHS = (TAGS_PATH, VERSION_PATH, PS_PATH)
"""What Ollama's clients ask about a server before they use it."""
CONTROL_PATHS = ("/v1/usage", "/v1/limits", "/v1/estimate")
"""What the control process answers, with the same keys; also below the first."""
PATH_SHOWN_MAX = 200
"""Characters of a path that an error repeats."""
_OLLAMA_PREFIX = "/api/"


class CatalogRoute(msgspec.Struct, frozen=True):
    """What is served here: a list of models, or with a name one of them; answered by the gateway itself."""

    path: str
    name: str | None = None


def route(method: str, path: str, control_url: str | None = None) -> Route | CatalogRoute:
    """What a request asks for; raises ``NotFound`` for a path that is not proxied, ``WrongMethod`` for a wrong method.

    ``control_url``: where the control process answers, as far as this gateway knows.
    """
    found = find(path)
    if found is not None:
        _check_method(method, path, "POST")
        return found
    if path == MODELS_PATH or path.startswith(MODELS_PATH + "/"):
        _check_method(method, path, "GET")
        return CatalogRoute(MODELS_PATH, unquote(path[len(MODELS_PATH) + 1 :]) or None)
    if path in OLLAMA_PATHS:
        _check_method(method, path, "GET")
        return CatalogRoute(path)
    if path.startswith(CONTROL_PATHS):
        where = "the control service (`billing control`)" if control_url is None else control_url
        raise NotFound(
            f"{path[:PATH_SHOWN_MAX]} is answered by {where}, with the same key, and not by the gateway"
        )
    served = ", ".join(sorted([*PATHS, *OLLAMA_PATHS]))
    raise NotFound(
        f"Unknown request URL: {method} {path[:PATH_SHOWN_MAX]}. Served here: {served}, {MODELS_PATH}."
    )


def dialect_of(path: str) -> Dialect:
    """In whose dialect an error on a path is told; OpenAI's where the path is nobody's."""
    found = find(path)
    if found is not None:
        return found.dialect
    return Dialect.OLLAMA if path.startswith(_OLLAMA_PREFIX) else Dialect.OPENAI


def _check_method(method: str, path: str, takes: str) -> None:
    if method != takes:
        raise WrongMethod(f"{path} takes {takes}, not {method}", allow=takes)
