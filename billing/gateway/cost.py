"""What an answer costs, for a client that asks with ``x-billing-usage: true`` (pure).

It is the marginal cost of this request alone, by the rates in force at its arrival. Where a rate has tiers or an allowance,
its place in the period is not known here: then it is that of a first token, and said to be an estimate, as is the cost of
counts that are not known. What an invoice says is computed from all usage of its period, and rounded once.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from billing import money
from billing.pricing.measure import REQUEST, Word
from billing.pricing.price import pieces
from billing.pricing.rating import Priced, price_at
from billing.pricing.term import Term
from billing.tokens.components import Component, components
from billing.tokens.usage import Provenance, TokenUsage, weakest

ASKED_BY = b"x-billing-usage"
_TRUE = b"true"
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Cost(msgspec.Struct, frozen=True):
    """``amount`` is exact, in ``currency``; None where nothing that was used has a rate, or nothing is known."""

    amount: Decimal | None
    currency: str | None
    is_estimate: bool
    is_unrated: bool
    """Whether something was used that has no rate: it is not in the amount."""

    def document(self) -> bytes:
        """The member ``cost`` as JSON; the amount is text, so that no client reads it as a float."""
        told = {
            "amount": None if self.amount is None else money.plain(self.amount),
            "currency": self.currency,
            "estimate": self.is_estimate,
        }
        return msgspec.json.encode(told | ({"unrated": True} if self.is_unrated else {}))

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The same as headers of a whole reply; what does not hold is left out."""
        told = []
        if self.amount is not None and self.currency is not None:
            told = [(b"x-billing-cost", money.plain(self.amount).encode())]
            told.append((b"x-billing-currency", self.currency.encode()))
        if self.is_estimate:
            told.append((b"x-billing-cost-estimate", _TRUE))
        if self.is_unrated:
            told.append((b"x-billing-cost-unrated", _TRUE))
        return told


def is_asked(value: bytes | None) -> bool:
    """Whether a request's header asks for the cost."""
    return value is not None and value.strip().lower() == _TRUE


def cost_of(usage: TokenUsage, terms: Sequence[Term], model: str, at_us: int) -> Cost:
    """What a request that arrived at an instant costs by its tenant's terms."""
    used = [(price_at(terms, at_us, model, word), word, quantity) for word, quantity in _used(usage)]
    rated = [(priced, quantity) for priced, _, quantity in used if isinstance(priced, Priced)]
    amounts = [_amount(priced, quantity) for priced, quantity in rated]
    is_known = weakest(usage) not in {None, Provenance.ESTIMATED}
    is_unrated = any(not isinstance(priced, Priced) and word != REQUEST for priced, word, _ in used)
    currency = next((term.plan.currency for term in terms if term.holds_at(at_us)), None)
    return Cost(
        amount=money.total(amounts) if amounts or (is_known and currency and not is_unrated) else None,
        currency=currency,
        is_estimate=not is_known or any(priced.rate.price.is_cumulative for priced, _ in rated),
        is_unrated=is_unrated,
    )


def _used(usage: TokenUsage) -> Iterator[tuple[Word, int]]:
    """Each component that was used, and the request itself, which a plan may price."""
    split = components(usage)
    for part in Component:
        if quantity := split.get(part):
            yield part, quantity
    yield REQUEST, 1


def _amount(priced: Priced, quantity: int) -> Decimal:
    """The price of a first token, times the quantity."""
    first = next(iter(pieces(priced.rate.price, 0, 1)))
    return first.price.amount(quantity)


def holds_usage(data: bytes, *, finished: bool) -> bool:
    """Whether an event is one that tells the usage of its whole stream, which has ``finished`` its choices."""
    members = _members_of(data)
    whole = _whole(members)
    if whole is None:
        return False
    return finished or members.get("choices") == msgspec.Raw(b"[]")


def with_cost(data: bytes, cost: bytes) -> bytes:
    """An event's data with the member ``cost`` in its usage; beside the other members where it has no usage object."""
    members = _members_of(data)
    if not members:
        return data
    whole = _whole(members)
    if whole is None:
        return msgspec.json.encode(members | {"cost": msgspec.Raw(cost)})
    if whole == "response":
        inner = members["response"]
        return msgspec.json.encode(members | {"response": msgspec.Raw(_in_usage(inner, cost))})
    return _in_usage(data, cost)


def _in_usage(data: bytes | msgspec.Raw, cost: bytes) -> bytes:
    members = _members_of(data)
    usage = _members_of(members["usage"]) | {"cost": msgspec.Raw(cost)}
    return msgspec.json.encode(members | {"usage": msgspec.Raw(msgspec.json.encode(usage))})


def _whole(members: dict[str, msgspec.Raw]) -> str | None:
    """Where the usage object stands: the event itself (``""``), or the ``response`` in it."""
    if _members_of(members.get("usage")):
        return ""
    response = _members_of(members.get("response"))
    return "response" if _members_of(response.get("usage")) else None


def _members_of(data: bytes | msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """The members of a JSON object; none of anything else."""
    try:
        return _decode_members(data) if data is not None else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
