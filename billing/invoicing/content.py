"""What an invoice says, as canonical bytes: the same records give the same bytes (P9).

Number, id and time of issue are no part of it. Keys are sorted, decimals are text without an exponent, instants are
RFC 3339 in UTC: the SHA-256 of the bytes names the content.
"""

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from billing import money
from billing.invoicing.ceiling import check_total
from billing.invoicing.draft import Draft, Reason, Section
from billing.invoicing.inputs import Inputs
from billing.invoicing.period import Period, instant
from billing.pricing.charge import Charge
from billing.pricing.measure import TOKENS, unit_of
from billing.pricing.rating import Rated, Unrated
from billing.tokens.components import Component

USAGE = "usage"
INCLUDED = "included"
"""The kinds of lines beside those of ``pricing.charge.ChargeKind``."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line; what a kind of line has not is None.

    ``amount`` is what is owed for it, rounded so that the lines add up to the total; ``amount_exact`` what it comes to.
    ``price`` is for each ``per`` tokens, or what else ``unit`` says that the quantity is counted in; ``agreed`` is the fee or the minimum as the plan says it for a month. For a part
    of a month, and only then, ``fraction`` says which in quarters of an hour (``22/2976``), and ``covered_start`` and
    ``covered_end`` where that part begins and ends.
    """

    kind: str
    plan: str
    plan_version: int
    model: str | None = None
    component: str | None = None
    tier: int | None = None
    quantity: int | None = None
    price: str | None = None
    per: int | None = None
    agreed: str | None = None
    amount_exact: str
    amount_minor: int
    amount: str
    # Left out where they are not set, so that contents without them are the bytes that they always were.
    fraction: str | UnsetType = UNSET
    covered_start: str | UnsetType = UNSET
    covered_end: str | UnsetType = UNSET
    unit: str | UnsetType = UNSET

    @property
    def counted_in(self) -> str:
        """What the quantity is counted in; empty where there is none."""
        if self.quantity is None:
            return ""
        return TOKENS if self.unit is UNSET else self.unit

    @property
    def covered(self) -> tuple[str, str, str] | None:
        """The fraction, its start and its end; None where the line is not of a part of the month."""
        parts = (self.fraction, self.covered_start, self.covered_end)
        said = tuple(part for part in parts if part is not UNSET)
        return None if len(said) < len(parts) else (said[0], said[1], said[2])


class Unpriced(msgspec.Struct, frozen=True, kw_only=True):
    """Usage without a rate: not billed, and not free. ``unit`` is there where the quantity is no tokens."""

    model: str
    component: str
    quantity: int
    reason: str
    at_risk: str | None
    unit: str | UnsetType = UNSET

    @property
    def counted_in(self) -> str:
        """What the quantity is counted in."""
        return TOKENS if self.unit is UNSET else self.unit


Units: TypeAlias = dict[str, int] | UnsetType
"""Quantities of what has no tokens, by component; left out where there are none."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that ended in one way and are known in one way; ``worth`` is None when nobody can say."""

    outcome: str
    provenance: str
    requests: int
    tokens: int
    tokens_unrated: int
    worth: str | None
    units: Units = UNSET
    units_unrated: Units = UNSET


class Apart(msgspec.Struct, frozen=True, kw_only=True):
    """Usage that is not billed, and what it would have cost."""

    requests: int
    requests_unknown: int
    tokens: int
    tokens_unrated: int
    worth: str | None
    endings: tuple[Ending, ...]
    unrated: tuple[Unpriced, ...]
    units: Units = UNSET
    units_unrated: Units = UNSET


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an invoice says. ``tokens``, ``units`` and ``requests`` are those billed, what is unrated among them."""

    format: int
    issuer: str
    tenant: str
    tenant_name: str
    month: str
    start: str
    end: str
    time_zone: str
    is_early: bool
    note: str | None
    currency: str
    rounding: str
    label: str
    lines: tuple[Line, ...]
    requests: int
    requests_unknown: int
    tokens: int
    tokens_unrated: int
    unrated: tuple[Unpriced, ...]
    waived: Apart
    review: Apart
    subtotal: str
    total_minor: int
    total: str
    units: Units = UNSET
    units_unrated: Units = UNSET


def content_of(draft: Draft, inputs: Inputs) -> Content:
    """The content of a priced draft.

    Raises ``ValueError`` on one without a currency, which is never an invoice, and ``Conflict`` as ``check_total`` does.
    """
    if draft.currency is None or draft.total_minor is None:
        raise ValueError(f"{inputs.tenant} {inputs.month} has no currency")
    check_total(draft, inputs.tenant)
    return Content(
        format=inputs.format,
        issuer=inputs.issuer,
        tenant=inputs.tenant,
        tenant_name=inputs.tenant_name,
        month=inputs.month,
        start=instant(draft.period.start_us),
        end=instant(draft.period.end_us),
        time_zone=inputs.time_zone,
        is_early=inputs.is_early,
        note=early_note(draft.period) if inputs.is_early else None,
        currency=draft.currency,
        rounding=inputs.rounding.value,
        label=draft.label,
        lines=_lines(draft, draft.currency),
        requests=draft.billed.requests,
        requests_unknown=draft.billed.requests_unknown,
        tokens=draft.billed.tokens,
        tokens_unrated=draft.billed.tokens_unrated,
        unrated=_unrated(draft.billed.unrated),
        waived=_apart(draft.waived),
        review=_apart(draft.review),
        subtotal=money.plain(draft.subtotal),
        total_minor=draft.total_minor,
        total=_amount(draft.total_minor, draft.currency),
        units=_units(draft.billed.units),
        units_unrated=_units(draft.billed.units_unrated),
    )


def early_note(period: Period) -> str:
    """What an invoice that was closed early says of itself."""
    return (
        f"Closed early: this invoice of {period.title} ends at {instant(period.end_us)}, with fees, minimums and "
        "allowances in full. Usage of the month that was recorded after the close is late usage of this invoice."
    )


def encode(content: Content) -> bytes:
    """The canonical bytes."""
    return msgspec.json.encode(content, order="sorted")


def decode(data: bytes) -> Content:
    """What canonical bytes say; raises ``msgspec.DecodeError`` on others."""
    return msgspec.json.decode(data, type=Content)


def digest(data: bytes) -> bytes:
    """The SHA-256 of canonical bytes, 32 of them."""
    return hashlib.sha256(data).digest()


def _lines(draft: Draft, currency: str) -> tuple[Line, ...]:
    used = [_used(line, currency) for line in draft.billed.lines]
    return (*used, *(_charged(charge, currency) for charge in draft.charges))


def _used(line: Rated, currency: str) -> Line:
    minor = _rounded(line.amount_minor)
    return Line(
        kind=INCLUDED if line.included else USAGE,
        plan=line.plan,
        plan_version=line.version,
        model=line.model,
        component=str(line.component),
        tier=line.tier,
        quantity=line.quantity,
        price=money.plain(line.price.price),
        per=line.price.per,
        amount_exact=money.plain(line.amount),
        amount_minor=minor,
        amount=_amount(minor, currency),
        unit=_unit(line.component),
    )


def _charged(charge: Charge, currency: str) -> Line:
    minor, part = _rounded(charge.amount_minor), charge.coverage
    return Line(
        kind=charge.kind.value,
        plan=charge.plan,
        plan_version=charge.version,
        agreed=money.plain(charge.agreed),
        amount_exact=money.plain(charge.amount),
        amount_minor=minor,
        amount=_amount(minor, currency),
        fraction=UNSET if part is None else str(part),
        covered_start=UNSET if part is None else instant(part.start_us),
        covered_end=UNSET if part is None else instant(part.end_us),
    )


def _rounded(amount_minor: int | None) -> int:
    if amount_minor is None:
        raise ValueError("a line of a draft with a currency is not rounded")
    return amount_minor


def _amount(minor: int, currency: str) -> str:
    """With the currency's decimals, zeros included."""
    return f"{money.from_minor(minor, currency):f}"


def _apart(section: Section) -> Apart:
    return Apart(
        requests=section.requests,
        requests_unknown=section.requests_unknown,
        tokens=section.tokens,
        tokens_unrated=section.tokens_unrated,
        worth=_worth(section.worth),
        endings=tuple(_ending(reason) for reason in section.reasons),
        unrated=_unrated(section.unrated),
        units=_units(section.units),
        units_unrated=_units(section.units_unrated),
    )


def _ending(reason: Reason) -> Ending:
    return Ending(
        outcome=reason.outcome,
        provenance=reason.provenance,
        requests=reason.requests,
        tokens=reason.tokens,
        tokens_unrated=reason.unrated,
        worth=_worth(reason.worth),
        units=_units(reason.units),
        units_unrated=_units(reason.units_unrated),
    )


def _unrated(unrated: Sequence[Unrated]) -> tuple[Unpriced, ...]:
    return tuple(
        Unpriced(
            model=each.model,
            component=each.component.value,
            quantity=each.quantity,
            reason=each.reason.value,
            at_risk=_worth(each.at_risk),
            unit=_unit(each.component),
        )
        for each in unrated
    )


def _worth(amount: Decimal | None) -> str | None:
    return None if amount is None else money.plain(amount)


def _unit(word: str) -> str | UnsetType:
    """Tokens are what every quantity was before there were units, and say nothing."""
    unit = unit_of(word)
    return UNSET if unit == TOKENS else unit


def _units(quantities: Mapping[Component, int]) -> Units:
    return {part.value: quantity for part, quantity in quantities.items()} or UNSET
