"""Counts the replies of rerankers, scorers and classifiers (protocols.md §2, §3, §6).

Shapes: an object with ``usage`` (vLLM, NIM, Jina, llama.cpp; old vLLM and Jina say ``total_tokens`` only), one with
``meta.billed_units`` (Cohere), a list with ``meta_info`` for each document (SGLang), a list without any counts (llama.cpp
and Text Embeddings Inference, asked with ``texts``).
"""

import msgspec

from billing.tokens.dialects.cohere import BilledUnits, Tokens, whole
from billing.tokens.fixed import NOTHING_GENERATED
from billing.tokens.meter import ReplyMeter
from billing.tokens.payload import PromptDetails, count
from billing.tokens.salvage import is_array, read, read_each
from billing.tokens.tally import Names, Tally
from billing.tokens.usage import UNKNOWN, Count, Part, Provenance, TokenUsage, clamp

_NAMES = Names(input="meta_info.prompt_tokens", cached="meta_info.cached_tokens", output="")


class RankUsage(msgspec.Struct, frozen=True):
    """``usage``."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None

    @property
    def empty(self) -> bool:
        """Whether it says nothing: zeros are a placeholder, for nothing can be judged without being read."""
        return not (self.prompt_tokens or self.total_tokens)


class Meta(msgspec.Struct, frozen=True):
    """Cohere's ``meta``."""

    billed_units: BilledUnits | None = None
    tokens: Tokens | None = None


class Ranking(msgspec.Struct, frozen=True):
    """A reply that is an object."""

    id: str | None = None
    model: str | None = None
    usage: RankUsage | None = None
    meta: Meta | None = None


class MetaInfo(msgspec.Struct, frozen=True):
    """SGLang's ``meta_info`` of one document, the query with it."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None


class Ranked(msgspec.Struct, frozen=True):
    """An element of a reply that is a list."""

    meta_info: MetaInfo | None = None


_decoder = msgspec.json.Decoder(Ranking)
_list_decoder = msgspec.json.Decoder(list[Ranked])


class RankingReplyMeter(ReplyMeter):
    """Reads one whole reply; ``documents`` is how many were to be judged, 0 where that is not known."""

    __slots__ = ("_list", "_ranking")

    def __init__(self, body: bytes, documents: int = 0) -> None:
        self._ranking: Ranking | None = None
        self._list: Tally | None = None
        if is_array(body):
            self._list = _tally(read_each(_list_decoder, Ranked, body) or [], documents)
        else:
            self._ranking = read(_decoder, body)

    @property
    def response_id(self) -> str | None:
        """The engine's id of the reply."""
        return self._ranking.id if self._ranking else None

    @property
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""
        return self._ranking.model if self._ranking else None

    def usage(self) -> TokenUsage:
        """The counts that the reply reports. Nothing is ever generated: the output is 0."""
        if self._list is not None:
            return clamp(
                msgspec.structs.replace(self._list.usage(Provenance.REPORTED), output=NOTHING_GENERATED)
            )
        if self._ranking is None:
            return TokenUsage(output=NOTHING_GENERATED)
        return clamp(_usage_of(self._ranking))


def _tally(ranked: list[Ranked], documents: int) -> Tally:
    """Each document's counts; fewer than were judged (``top_n``) do not add up to what was used."""
    tally = Tally(_NAMES, 1, max(documents, 1))
    for number, element in enumerate(ranked):
        meta_info = element.meta_info or MetaInfo()
        tally.answer(number).advance(meta_info.prompt_tokens, meta_info.cached_tokens, None)
    return tally


def _usage_of(ranking: Ranking) -> TokenUsage:
    usage, meta = ranking.usage, ranking.meta or Meta()
    if usage is None or usage.empty:
        usage = RankUsage()
    details = usage.prompt_tokens_details or PromptDetails()
    generated = _reported(usage.completion_tokens, "usage.completion_tokens")
    searches = _searches(meta.billed_units)
    return TokenUsage(
        input=_input(usage, meta),
        cached_input=_reported(details.cached_tokens, "usage.prompt_tokens_details.cached_tokens"),
        output=NOTHING_GENERATED if generated.value is None else generated,
        parts={} if searches.value is None else {Part.SEARCH: searches},
    )


def _input(usage: RankUsage, meta: Meta) -> Count:
    """All that was read, wherever it stands; without an output the total is the input."""
    tokens, billed = meta.tokens or Tokens(), meta.billed_units or BilledUnits()
    places = (
        (usage.prompt_tokens, "usage.prompt_tokens"),
        (usage.total_tokens, "usage.total_tokens"),
        (whole(tokens.input_tokens), "meta.tokens.input_tokens"),
        (whole(billed.input_tokens), "meta.billed_units.input_tokens"),
    )
    said = [_reported(value, method) for value, method in places]
    return next((found for found in said if found.value is not None), UNKNOWN)


def _searches(billed: BilledUnits | None) -> Count:
    units = whole(billed.search_units) if billed else None
    return _reported(units, "meta.billed_units.search_units")


def _reported(value: int | None, method: str) -> Count:
    return count(value, Provenance.REPORTED, method)
