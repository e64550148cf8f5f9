"""What an answer costs, for a client that asks with ``x-billing-usage: true`` (pure).

It is the marginal cost of this request alone, by the rates in force at its arrival. Where a rate has tiers or an allowance,
its place in the period is not known here: then it is that of a first token, and said to be an estimate, as is the cost of
counts that are not known. What an invoice says is computed from all usage of its period, and rounded once.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec

from billing import money
from billing.pricing.marginal import marginal
from billing.pricing.measure import REQUEST, Word
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
    found = marginal(terms, at_us, model, _used(usage))
    is_known = weakest(usage) not in {None, Provenance.ESTIMATED}
    amount = found.amount
    if amount is None and is_known and found.currency and not found.unrated:
        amount = Decimal(0)
    return Cost(
        amount=amount,
        currency=found.currency,
        is_estimate=not is_known or found.is_cumulative,
        is_unrated=bool(found.unrated),
    )


def _used(usage: TokenUsage) -> Iterator[tuple[Word, int]]:
    """Each component that was used, and the request itself, which a plan may price."""
    split = components(usage)
    for part in Component:
        if quantity := split.get(part):
            yield part, quantity
    yield REQUEST, 1


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
