"""What a caller may ask for, answered by the gateway itself: ``GET /v1/models`` in OpenAI's shape, Ollama's lists (pure)."""

from collections.abc import Sequence

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.directory.caller import Caller, Model
from billing.errors import NotFound
from billing.gateway import ollama_catalog
from billing.gateway.ports import Directory
from billing.gateway.price_list import price_list
from billing.gateway.routes import CatalogRoute
from billing.pricing.term import Term


def catalog(directory: Directory, asked: CatalogRoute, caller: Caller, at_us: int) -> bytes:
    """The JSON of all models that something serves, or of the one asked for, with what the caller pays for them.

    Raises ``NotFound`` for any other.
    """
    if asked.path == ollama_catalog.TAGS_PATH:
        return ollama_catalog.tags(directory)
    if asked.path == ollama_catalog.PS_PATH:
        return ollama_catalog.running(directory)
    if asked.path == ollama_catalog.VERSION_PATH:
        return ollama_catalog.version()
    terms = directory.terms(caller.tenant_id)
    if asked.name is None:
        cards = [_card(model, terms, at_us) for model in directory.models()]
        return msgspec.json.encode({"object": "list", "data": cards})
    model = directory.model(asked.name)
    if not directory.targets(model):
        raise NotFound(f"The model `{asked.name}` does not exist or you do not have access to it.", "model")
    return msgspec.json.encode(_card(model, terms, at_us))


def _card(model: Model, terms: Sequence[Term], at_us: int) -> dict[str, object]:
    created_s = model.created_us // MICROSECONDS_PER_SECOND
    card = {"id": model.name, "object": "model", "created": created_s, "owned_by": "gateway"}
    prices = price_list(terms, model.name, at_us)
    return card if prices is None else card | {"pricing": prices}
