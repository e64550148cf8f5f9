"""Replies and events of ``/v1/responses``, typed as far as metering reads them (openai-openapi; protocols.md §5)."""

import msgspec

from billing.tokens.dialects.openai_usage import Usage, known, usage_of
from billing.tokens.engines import Engine, Says
from billing.tokens.payload import Timings, count
from billing.tokens.salvage import read
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage

SEARCHES = frozenset({"web_search_call", "file_search_call"})
IMAGES = "image_generation_call"
FAILED = "failed"


class Passage(msgspec.Struct, frozen=True):
    """A piece of an output item's text."""

    text: str | None = None


class Item(msgspec.Struct, frozen=True):
    """One element of ``output``."""

    type: str | None = None
    content: list[Passage] | None = None
    summary: list[Passage] | None = None


class WebSearch(msgspec.Struct, frozen=True):
    """``tool_usage.web_search``."""

    num_requests: int | None = None


class ToolUsage(msgspec.Struct, frozen=True):
    """``tool_usage``: what hosted tools used, beside the model's own usage."""

    web_search: WebSearch | None = None


class Response(msgspec.Struct, frozen=True):
    """A whole response, or the one inside an event; ``/v1/responses/compact`` answers in the same shape."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[Item] = []
    usage: Usage | None = None
    tool_usage: ToolUsage | None = None


class Event(msgspec.Struct, frozen=True):
    """One event of a streamed response. llama.cpp adds ``timings``, its running counts."""

    type: str | None = None
    delta: str | None = None
    item: Item | None = None
    response: Response | None = None
    timings: Timings | None = None
    error: msgspec.Raw = msgspec.Raw()


_RESPONSE = msgspec.json.Decoder(Response)
_EVENT = msgspec.json.Decoder(Event)


def response_of(body: bytes) -> Response | None:
    """The response that JSON text holds; None when it is no JSON object."""
    return read(_RESPONSE, body)


def event_of(data: bytes) -> Event | None:
    """The event that JSON text holds; None when it is no JSON object."""
    return read(_EVENT, data)


def counted(response: Response, engine: Engine, *, reasons: bool) -> TokenUsage:
    """What a whole response says it used: its tokens, and the searches and images of its hosted tools.

    ``reasons`` is whether reasoning text came with it: then a count of 0 that the engine may not have counted is unknown.
    """
    usage = response.usage
    if usage is None or (usage.empty and response.status != FAILED):
        reported = TokenUsage()
    else:
        reported = believed(usage_of(usage), engine, reasons=reasons)
    parts = known({Part.SEARCH: _searches(response), Part.IMAGE: items(response.output, IMAGES)})
    return msgspec.structs.replace(reported, parts=reported.parts | parts) if parts else reported


def believed(usage: TokenUsage, engine: Engine, *, reasons: bool) -> TokenUsage:
    """The same usage without the zeros that nobody counted (Ollama writes 0 for what it does not know)."""
    changes = {}
    if usage.cached_input.value == 0 and engine.cached is not Says.YES:
        changes["cached_input"] = UNKNOWN
    if usage.reasoning.value == 0 and (
        engine.reasoning is Says.NO
        or (engine.reasoning is Says.DOUBTFUL_ZERO and _doubtful(engine, reasons=reasons))
    ):
        changes["reasoning"] = UNKNOWN
    return msgspec.structs.replace(usage, **changes) if changes else usage


def _doubtful(engine: Engine, *, reasons: bool) -> bool:
    """A 0 beside reasoning text is wrong; an engine that makes up one 0 makes up the other, too."""
    return reasons or engine.cached is not Says.YES


def reasoning_text(response: Response) -> str:
    """The reasoning text of a response, its summary where the text itself is kept back; ``""`` without any."""
    texts = []
    for item in response.output:
        if item.type == "reasoning":
            passages = item.content or item.summary or []
            texts.append("".join([passage.text or "" for passage in passages]))
    return "".join(texts)


def items(output: list[Item], *types: str) -> Count:
    """How many output items are of these types; unknown where there are none."""
    number = sum(item.type in types for item in output)
    return Count(number, Provenance.REPORTED, "output items of its type") if number else UNKNOWN


def _searches(response: Response) -> Count:
    """Searches as the engine bills them, else each call of a search tool; searches in files are always its calls."""
    billed = response.tool_usage.web_search if response.tool_usage else None
    web = count(
        billed.num_requests if billed else None, Provenance.REPORTED, "tool_usage.web_search.num_requests"
    )
    output = response.output
    if web.value is None:
        return items(output, *SEARCHES)
    files = items(output, "file_search_call").value or 0
    total = web.value + files
    # That none of the calls is billed is worth saying; that there were none is not.
    if not total and items(output, *SEARCHES).value is None:
        return UNKNOWN
    return Count(total, Provenance.REPORTED, web.method + (" and file searches" if files else ""))
