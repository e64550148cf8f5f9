"""One request from its key to its cost: what is known, how it is known, and the arithmetic of its price."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType

import msgspec

from billing import money
from billing.ids import instant_of
from billing.invoicing.quantities import used
from billing.metering.event import DIALECT
from billing.metering.stored import StoredCount, StoredRecord
from billing.pricing.billable import Disposition, disposition
from billing.pricing.measure import REQUEST, Word, unit_of
from billing.pricing.price import Price, pieces
from billing.pricing.rating import Pool, Positions, price_at
from billing.pricing.term import Held, Term, Unpriced, in_force
from billing.pricing.unit import Piece, UnitPrice
from billing.tokens.components import components
from billing.tokens.usage import BESIDE, Count, Part, Provenance, TokenUsage

NOTHING_BILLED: Mapping[Pool, int] = MappingProxyType({})


class Parties(msgspec.Struct, frozen=True):
    """Who asked and what answered, by the names that people know. None was deleted since, or never there."""

    tenant: str
    tenant_name: str
    project: str | None
    key_prefix: str | None
    key_name: str | None
    backend: str | None
    backend_url: str | None


class Cost(msgspec.Struct, frozen=True):
    """quantity × price ÷ per = amount, for one component, or for the request itself where it has a price; without a rate, why.

    With tiers or an allowance, ``price`` is the marginal one: what the next token costs where the period's billed usage
    stands. ``is_marginal`` says so; the amount is an estimate then, as the request may have crossed a tier or was priced
    in another. With a unit price it is the exact arithmetic.
    """

    component: Word
    quantity: int
    price: UnitPrice | None = None
    plan: str = ""
    version: int = 0
    pattern: str = ""
    priced_as: str | None = None
    """The component whose rate was used, ``total`` or ``request``."""
    amount: Decimal | None = None
    unpriced: Unpriced | None = None
    is_marginal: bool = False
    tier: int | None = None
    included: bool = False

    @property
    def unit(self) -> str:
        """What the quantity is counted in."""
        return unit_of(self.component)


class Trace(msgspec.Struct, frozen=True):
    """One screen about one request. ``amount`` is an estimate until its period is closed.

    It is None when nothing has one although something may have been used: no plan, no rate, or counts that are unknown.
    """

    record: StoredRecord
    at_us: int
    parties: Parties
    counts: tuple[tuple[str, StoredCount], ...]
    costs: tuple[Cost, ...]
    disposition: Disposition
    currency: str | None
    amount: Decimal | None


def trace(
    record: StoredRecord, parties: Parties, terms: Sequence[Term], positions: Positions = NOTHING_BILLED
) -> Trace:
    """What is known of a request; ``terms`` are what prices its tenant at its time.

    ``positions`` are those of its period (``draft.billed_positions``); without them a marginal price is that of a first token.
    """
    at_us = instant_of(record.id)
    costs = tuple(_costs(record, at_us, terms, positions))
    held = in_force(terms, at_us)
    return Trace(
        record=record,
        at_us=at_us,
        parties=parties,
        counts=_counts(record),
        costs=costs,
        disposition=disposition(
            record.outcome,
            record.provenance,
            held.version.content.billable if isinstance(held, Held) else None,
        ),
        currency=next((term.plan.currency for term in terms if term.holds_at(at_us)), None),
        amount=_amount(record, costs),
    )


def _costs(record: StoredRecord, at_us: int, terms: Sequence[Term], positions: Positions) -> Iterator[Cost]:
    """The cost of each component, and of the request itself where a plan prices it."""
    for part, quantity in used(components(_usage(record))):
        yield _cost(record.model, at_us, part, quantity, terms, positions)
    if not isinstance(price_at(terms, at_us, record.model, REQUEST), Unpriced):
        yield _cost(record.model, at_us, REQUEST, 1, terms, positions)


def _amount(record: StoredRecord, costs: Sequence[Cost]) -> Decimal | None:
    known = [cost.amount for cost in costs if cost.amount is not None]
    has_tokens = record.input.value is not None and record.output.value is not None
    is_complete = has_tokens or any(part in record.parts for part in BESIDE)
    return money.total(known) if known or (is_complete and not costs) else None


def _cost(
    model: str, at_us: int, part: Word, quantity: int, terms: Sequence[Term], positions: Positions
) -> Cost:
    priced = price_at(terms, at_us, model, part)
    if isinstance(priced, Unpriced):
        return Cost(part, quantity, unpriced=priced)
    next_token = _next(priced.rate.price, positions.get(priced.pool, 0))
    return Cost(
        component=part,
        quantity=quantity,
        price=next_token.price,
        plan=priced.plan,
        version=priced.version.number,
        pattern=priced.rate.pattern,
        priced_as=priced.rate.priced_as,
        amount=next_token.price.amount(quantity),
        is_marginal=priced.rate.price.is_cumulative,
        tier=next_token.tier,
        included=next_token.included,
    )


def _next(price: Price, position: int) -> Piece:
    """What the token after a position costs."""
    return next(iter(pieces(price, position, 1)))


def operation_of(record: StoredRecord) -> str:
    """What was asked for, and in whose words where they are not OpenAI's."""
    return (
        record.operation if record.dialect == DIALECT else f"{record.operation} in {record.dialect}'s dialect"
    )


def spans_of(record: StoredRecord) -> list[tuple[str, int]]:
    """The known times of a request, in microseconds: those since its arrival, and those between its tokens."""
    named = (
        ("sent to the engine after", record.overhead_us),
        ("first token after", record.ttft_us),
        ("first of the answer after", None if record.ttfa_us == record.ttft_us else record.ttfa_us),
        ("each further token", record.itl_us),
        ("longest pause", record.gap_max_us),
        ("in all", record.duration_us),
    )
    return [(name, span_us) for name, span_us in named if span_us is not None]


def _counts(record: StoredRecord) -> tuple[tuple[str, StoredCount], ...]:
    """Input and output always, their parts and what stands beside them when something is known of it."""
    named = (
        ("input", record.input),
        ("cached_input", record.cached_input),
        ("cache_write", record.cache_write),
        ("output", record.output),
        ("reasoning", record.reasoning),
    )
    parts = ((part.value, record.parts[part]) for part in Part if part in record.parts)
    return tuple(
        (name, count)
        for name, count in (*named, *parts)
        if name in {"input", "output"} or count.value is not None
    )


def _usage(record: StoredRecord) -> TokenUsage:
    return TokenUsage(
        input=_count(record.input),
        cached_input=_count(record.cached_input),
        cache_write=_count(record.cache_write),
        output=_count(record.output),
        reasoning=_count(record.reasoning),
        parts={Part(name): _count(count) for name, count in record.parts.items()},
    )


def _count(stored: StoredCount) -> Count:
    provenance = Provenance(stored.provenance) if stored.provenance else None
    return Count(stored.value, provenance, stored.method or "")
