"""``POST /v1/estimate``: what a request would cost."""

import msgspec
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from billing import money
from billing.errors import InvalidInput
from billing.portal.caller import Calling
from billing.portal.services import Portal
from billing.pricing.marginal import Marginal, MarginalLine, marginal
from billing.pricing.measure import REQUEST, Word, unit_of
from billing.tokens.components import Component, components
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Provenance, TokenUsage


class EstimateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens as an engine would report them: the cached are among the input, the reasoning among the output."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class LineDocument(msgspec.Struct, frozen=True):
    """quantity × price ÷ per = amount, exact; price and amount are null where there is no rate."""

    component: str
    quantity: int
    unit: str
    price: str | None
    per: int | None
    amount: str | None


class EstimateDocument(msgspec.Struct, frozen=True):
    """What it would cost now. ``estimate`` where tiers or an allowance make it depend on the rest of the period."""

    model: str
    currency: str | None
    amount: str | None
    estimate: bool
    lines: list[LineDocument]
    unrated: list[str]


def estimate_handlers(portal: Portal) -> list[HTTPRouteHandler]:
    """The route, over what it works with."""

    @post("/estimate", include_in_schema=False, status_code=HTTP_200_OK)
    async def estimate(request: Calling, data: JSONBody[EstimateRequest]) -> EstimateDocument:
        """The marginal cost of such a request by the prices that are in force now."""
        model = portal.directory.model(data.model)
        terms = portal.directory.terms(request.user.tenant_id)
        return _document(model.name, marginal(terms, portal.clock(), model.name, _quantities(data)))

    return [estimate]


def _quantities(asked: EstimateRequest) -> list[tuple[Word, int]]:
    """The disjoint components of the tokens, and the request itself; raises ``InvalidInput`` naming what is wrong."""
    for name in (
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
    ):
        if not 0 <= getattr(asked, name) <= COUNT_MAX:
            raise InvalidInput(f"{name}: 0 to {COUNT_MAX:,}, got {getattr(asked, name):,}", name)
    if asked.cached_input_tokens + asked.cache_write_tokens > asked.input_tokens:
        raise InvalidInput(
            "cached_input_tokens: what is read from and written to a cache is among the input",
            "cached_input_tokens",
        )
    if asked.reasoning_tokens > asked.output_tokens:
        raise InvalidInput("reasoning_tokens: reasoning is among the output", "reasoning_tokens")
    split = components(
        TokenUsage(
            input=_count(asked.input_tokens),
            cached_input=_count(asked.cached_input_tokens),
            cache_write=_count(asked.cache_write_tokens) if asked.cache_write_tokens else UNKNOWN,
            output=_count(asked.output_tokens),
            reasoning=_count(asked.reasoning_tokens),
        )
    )
    return [*((part, split.get(part)) for part in Component if split.get(part)), (REQUEST, 1)]


def _count(tokens: int) -> Count:
    return Count(tokens, Provenance.ESTIMATED, "of the request for an estimate")


def _document(model: str, found: Marginal) -> EstimateDocument:
    return EstimateDocument(
        model=model,
        currency=found.currency,
        amount=None if found.amount is None else money.plain(found.amount),
        estimate=found.is_cumulative,
        lines=[_line(line) for line in found.lines],
        unrated=[str(word) for word in found.unrated],
    )


def _line(line: MarginalLine) -> LineDocument:
    return LineDocument(
        component=str(line.word),
        quantity=line.quantity,
        unit=unit_of(line.word),
        price=None if line.price is None else money.plain(line.price.price),
        per=None if line.price is None else line.price.per,
        amount=None if line.amount is None else money.plain(line.amount),
    )
