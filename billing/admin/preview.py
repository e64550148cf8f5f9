"""What a tenant owes before its month is closed, as the API shows it: with the names that the command line uses."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from billing import money
from billing.admin.moment import written
from billing.invoicing.draft import Reason, Section
from billing.invoicing.quantities import without
from billing.invoicing.service import Preview
from billing.pricing.charge import Charge, ChargeKind
from billing.pricing.measure import TOKENS, unit_of
from billing.pricing.rating import Rated, Unrated
from billing.tokens.components import Component


class LineDocument(msgspec.Struct, frozen=True):
    """quantity × price ÷ per = amount, exact; ``amount_minor`` is what an invoice would print.

    The quantity is counted in ``unit``: ``tokens``, ``images``, ``seconds``, ``GPU seconds``, ``characters``, ``searches`` or
    ``requests``.
    """

    plan: str
    version: int
    model: str
    component: str
    quantity: int
    unit: str
    price: str
    per: int
    amount: str
    amount_minor: int | None
    tier: int | None
    included: bool


class ChargeDocument(msgspec.Struct, frozen=True):
    """A fee, or what the usage lacks of the minimum; ``agreed`` is what the plan says for a month.

    Of a part of a month, ``fraction`` says which in quarters of an hour (``22/2976``), between the two instants; else
    they are null.
    """

    kind: ChargeKind
    plan: str
    version: int
    agreed: str
    amount: str
    amount_minor: int | None
    fraction: str | None
    covered_start: str | None
    covered_end: str | None


class UnratedDocument(msgspec.Struct, frozen=True):
    """Usage without a rate: not billed, and not free."""

    model: str
    component: str
    quantity: int
    unit: str
    reason: str
    at_risk_estimate: str | None


class ReasonDocument(msgspec.Struct, frozen=True):
    """Requests that ended in one way and are known in one way; null is not known.

    ``units`` are quantities of what has no tokens, by component.
    """

    outcome: str
    provenance: str
    requests: int
    requests_unknown: int
    tokens: int | None
    tokens_unrated: int | None
    units: dict[str, int]
    units_unrated: dict[str, int]
    amount: str | None


class SectionDocument(msgspec.Struct, frozen=True):
    """Usage that is not billed, and what it would cost."""

    requests: int
    requests_unknown: int
    tokens: int | None
    tokens_unrated: int | None
    units: dict[str, int]
    units_unrated: dict[str, int]
    amount: str | None
    lines: list[LineDocument]
    unrated: list[UnratedDocument]
    reasons: list[ReasonDocument]


class PreviewDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's invoice as it would be as of an instant; of a closed month, as it is, with its status and number.

    ``tokens`` have a rate, ``tokens_unrated`` have none. ``units`` and ``units_unrated`` are the same of what has no tokens,
    by component.
    """

    status: str
    number: str | None
    tenant: str
    name: str
    period: str
    start: str
    end: str
    as_of: str
    label: str
    currency: str | None
    requests: int
    tokens: int
    tokens_unrated: int
    units: dict[str, int]
    units_unrated: dict[str, int]
    lines: list[LineDocument]
    charges: list[ChargeDocument]
    usage_amount: str | None
    subtotal: str | None
    total: str | None
    total_minor: int | None
    unrated: list[UnratedDocument]
    waived: SectionDocument
    under_review: SectionDocument


NOT_CLOSED = "preview"
NOTHING = SectionDocument(0, 0, 0, 0, {}, {}, "0", [], [], [])
PREVIEW = PreviewDocument(
    status=NOT_CLOSED,
    number=None,
    tenant="acme",
    name="Acme Inc.",
    period="2026-11",
    start="2026-10-31T18:30:00Z",
    end="2026-11-30T18:30:00Z",
    as_of="2026-11-24T10:00:00Z",
    label="Standard",
    currency="USD",
    requests=1_000,
    tokens=2_000_000,
    tokens_unrated=0,
    units={},
    units_unrated={},
    lines=[
        LineDocument(
            "standard",
            1,
            "llama-3.1-70b",
            "uncached_input",
            2_000_000,
            TOKENS,
            "0.5",
            1_000_000,
            "1",
            100,
            None,
            False,
        )
    ],
    charges=[ChargeDocument(ChargeKind.FEE, "standard", 1, "20", "20", 2000, None, None, None)],
    usage_amount="1",
    subtotal="21",
    total="21.00",
    total_minor=2100,
    unrated=[],
    waived=NOTHING,
    under_review=NOTHING,
)


def preview_document(found: Preview) -> PreviewDocument:
    """A preview as the API shows it; without a plan nothing has an amount."""
    draft, has_plan = found.draft, found.draft.currency is not None
    return PreviewDocument(
        status=NOT_CLOSED if found.invoice is None else found.invoice.status.value,
        number=None if found.invoice is None else found.invoice.number,
        tenant=found.tenant.slug,
        name=found.tenant.name,
        period=str(draft.period),
        start=written(draft.period.start_us),
        end=written(draft.period.end_us),
        as_of=written(found.as_of_us),
        label=draft.label,
        currency=draft.currency,
        requests=draft.billed.requests,
        tokens=draft.billed.tokens - draft.billed.tokens_unrated,
        tokens_unrated=draft.billed.tokens_unrated,
        units=_units(without(draft.billed.units, draft.billed.units_unrated)),
        units_unrated=_units(draft.billed.units_unrated),
        lines=[_line(each) for each in draft.billed.lines],
        charges=[_charge(each) for each in draft.charges],
        usage_amount=money.plain(draft.billed.amount) if has_plan else None,
        subtotal=money.plain(draft.subtotal) if has_plan else None,
        # Its decimals are the currency's, zeros included.
        total=None if draft.total is None else f"{draft.total:f}",
        total_minor=draft.total_minor,
        unrated=[_unrated(each) for each in draft.billed.unrated],
        waived=_section(draft.waived),
        under_review=_section(draft.review),
    )


def _section(section: Section) -> SectionDocument:
    return SectionDocument(
        section.requests,
        section.requests_unknown,
        *_tokens(section.tokens, section.tokens_unrated, is_unknown=section.is_unknown),
        _units(without(section.units, section.units_unrated)),
        _units(section.units_unrated),
        _amount(section.worth),
        [_line(each) for each in section.lines],
        [_unrated(each) for each in section.unrated],
        [_reason(each) for each in section.reasons],
    )


def _reason(reason: Reason) -> ReasonDocument:
    return ReasonDocument(
        reason.outcome,
        reason.provenance,
        reason.requests,
        reason.requests_unknown,
        *_tokens(reason.tokens, reason.unrated, is_unknown=reason.is_unknown),
        _units(without(reason.units, reason.units_unrated)),
        _units(reason.units_unrated),
        _amount(reason.worth),
    )


def _tokens(tokens: int, unrated: int, *, is_unknown: bool) -> tuple[int | None, int | None]:
    """Tokens with a rate and those without; what is not known is null, never 0."""
    return (None, None) if is_unknown else (tokens - unrated, unrated)


def _units(quantities: Mapping[Component, int]) -> dict[str, int]:
    return {part.value: quantity for part, quantity in quantities.items()}


def _line(line: Rated) -> LineDocument:
    return LineDocument(
        plan=line.plan,
        version=line.version,
        model=line.model,
        component=str(line.component),
        quantity=line.quantity,
        unit=unit_of(line.component),
        price=money.plain(line.price.price),
        per=line.price.per,
        amount=money.plain(line.amount),
        amount_minor=line.amount_minor,
        tier=line.tier,
        included=line.included,
    )


def _charge(charge: Charge) -> ChargeDocument:
    part = charge.coverage
    return ChargeDocument(
        kind=charge.kind,
        plan=charge.plan,
        version=charge.version,
        agreed=money.plain(charge.agreed),
        amount=money.plain(charge.amount),
        amount_minor=charge.amount_minor,
        fraction=None if part is None else str(part),
        covered_start=None if part is None else written(part.start_us),
        covered_end=None if part is None else written(part.end_us),
    )


def _unrated(line: Unrated) -> UnratedDocument:
    return UnratedDocument(
        model=line.model,
        component=line.component.value,
        quantity=line.quantity,
        unit=unit_of(line.component),
        reason=line.reason.value,
        at_risk_estimate=_amount(line.at_risk),
    )


def _amount(amount: Decimal | None) -> str | None:
    return None if amount is None else money.plain(amount)
