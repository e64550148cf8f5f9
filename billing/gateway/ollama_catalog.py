"""``GET /api/tags``, ``/api/ps`` and ``/api/version``: Ollama's lists, answered by the gateway itself (``api/types.go``; pure).

Only models that may be asked in Ollama's dialect are listed. What the gateway does not know of them (files, sizes, families)
is written as Ollama writes what it does not know.
"""

import msgspec

from billing.clock import rfc3339
from billing.directory.caller import Model
from billing.gateway.ports import Directory
from billing.tokens.engines import ENGINES
from billing.tokens.operation import Dialect

TAGS_PATH = "/api/tags"
PS_PATH = "/api/ps"
VERSION_PATH = "/api/version"
VERSION = "0.12.0"
"""The release of Ollama whose API is spoken here: clients ask before they use what is newer."""
_NO_TIME = "0001-01-01T00:00:00Z"
_DETAILS = {
    "parent_model": "", "format": "", "family": "", "families": None, "parameter_size": "", "quantization_level": "",
}  # fmt: skip


def tags(directory: Directory) -> bytes:
    """``{"models": […]}``: what a caller may ask for."""
    cards = [_card(model) | {"modified_at": _moment(model.created_us)} for model in _served(directory)]
    return msgspec.json.encode({"models": cards})


def running(directory: Directory) -> bytes:
    """``{"models": […]}``: what is ready to answer. Which of them a backend has in memory, only the backend knows."""
    unknown = {"expires_at": _NO_TIME, "size_vram": 0, "context_length": 0}
    return msgspec.json.encode({"models": [_card(model) | unknown for model in _served(directory)]})


def version() -> bytes:
    """``{"version": "…"}``."""
    return msgspec.json.encode({"version": VERSION})


def _served(directory: Directory) -> list[Model]:
    return [model for model in directory.models() if _speaks(directory, model)]


def _speaks(directory: Directory, model: Model) -> bool:
    """Whether any backend of a model has an engine that takes Ollama's requests."""
    engines = [ENGINES.get(target.backend.engine) for target in directory.targets(model)]
    return any(dialect is Dialect.OLLAMA for engine in engines if engine for dialect, _ in engine.serves)


def _card(model: Model) -> dict[str, object]:
    """What both lists say of a model. Clients show the first half of a digest, so it is of the usual length."""
    return {
        "name": model.name, "model": model.name, "size": 0, "digest": model.id.hex * 2, "details": _DETAILS,
    }  # fmt: skip


def _moment(instant_us: int) -> str:
    return rfc3339(instant_us)
