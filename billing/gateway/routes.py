"""The allow-list of proxied paths: an engine's other routes can never be reached through the gateway (pure)."""

from urllib.parse import unquote

import msgspec

from billing.errors import NotFound, WrongMethod
from billing.tokens.dialects.routes import PATHS, Route, find

MODELS_PATH = "/v1/models"
PATH_SHOWN_MAX = 200
"""Characters of a path that an error repeats."""


class ModelsRoute(msgspec.Struct, frozen=True):
    """The list of models, or with a name one of them; answered by the gateway itself."""

    name: str | None = None


def route(method: str, path: str) -> Route | ModelsRoute:
    """What a request asks for; raises ``NotFound`` for a path that is not proxied, ``InvalidInput`` for a wrong method."""
    found = find(path)
    if found is not None:
        if method != "POST":
            raise WrongMethod(f"{path} takes POST, not {method}")
        return found
    if path == MODELS_PATH or path.startswith(MODELS_PATH + "/"):
        if method != "GET":
            raise WrongMethod(f"{path} takes GET, not {method}")
        return ModelsRoute(unquote(path[len(MODELS_PATH) + 1 :]) or None)
    raise NotFound(
        f"Unknown request URL: {method} {path[:PATH_SHOWN_MAX]}. Served here: {', '.join(sorted(PATHS))}, {MODELS_PATH}."
    )
