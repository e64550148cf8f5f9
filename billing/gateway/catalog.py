"""What a caller may ask for, answered by the gateway itself: ``GET /v1/models`` in OpenAI's shape, Ollama's lists (pure)."""

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.directory.caller import Model
from billing.errors import NotFound
from billing.gateway import ollama_catalog
from billing.gateway.ports import Directory
from billing.gateway.routes import CatalogRoute


def catalog(directory: Directory, asked: CatalogRoute) -> bytes:
    """The JSON of all models that something serves, or of the one asked for; raises ``NotFound`` for any other."""
    if asked.path == ollama_catalog.TAGS_PATH:
        return ollama_catalog.tags(directory)
    if asked.path == ollama_catalog.PS_PATH:
        return ollama_catalog.running(directory)
    if asked.path == ollama_catalog.VERSION_PATH:
        return ollama_catalog.version()
    if asked.name is None:
        return msgspec.json.encode({"object": "list", "data": [_card(model) for model in directory.models()]})
    model = directory.model(asked.name)
    if not directory.targets(model):
        raise NotFound(f"The model `{asked.name}` does not exist or you do not have access to it.", "model")
    return msgspec.json.encode(_card(model))


def _card(model: Model) -> dict[str, object]:
    created_s = model.created_us // MICROSECONDS_PER_SECOND
    return {"id": model.name, "object": "model", "created": created_s, "owned_by": "gateway"}
