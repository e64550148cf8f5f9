"""An invoice in plain values, for tests of what is made of one."""

from uuid import UUID

import msgspec

from billing.invoicing.content import Content, content_of, decode, digest, encode
from billing.invoicing.draft import Draft, draft
from billing.invoicing.inputs import Inputs, pin
from billing.invoicing.invoice import Invoice, InvoiceDocument, InvoiceStatus, document_of
from billing.invoicing.period import parse_period
from billing.metering.stored import RollupRow
from billing.money import Rounding
from billing.pricing.parse import parse
from billing.pricing.plan import Plan
from billing.pricing.term import Term
from billing.tokens.components import Components
from tests.invoice_kit import SPOOL, TENANT, at, rollup_row

NOVEMBER = parse_period("2026-11")
PLAN_TEXT = """\
plan: graduated
currency: USD
label: Graduated prices with a fee
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    monthly_fee: "20.00"
    minimum: "5.00"
    rates:
      - model: golden
        input: {price: "0.40", allowance: 100}
        output:
          tiers:
            - {up_to: 100, price: "2.00"}
            - {price: "1.20"}
"""
ROWS = [
    rollup_row("2026-11-01T00:00:00Z", Components(1_000, 0, 0, 90, 20)),
    rollup_row("2026-11-24T10:00:00Z", Components(500, 0, 0, 60, 0), requests=2),
    rollup_row("2026-11-02T00:00:00Z", Components(7, 0, 0, 3, 0), outcome="upstream_error"),
    rollup_row("2026-11-02T00:00:00Z", Components(11, 0, 0, 0, 0), provenance="estimated"),
    rollup_row("2026-11-03T00:00:00Z", Components(13, 0, 0, 0, 0), model="embed"),
]


def plan_of(text: str = PLAN_TEXT) -> Plan:
    """A stored plan of a YAML text."""
    wanted = parse(text)
    versions = [
        msgspec.structs.replace(each, number=number) for number, each in enumerate(wanted.versions, 1)
    ]
    return Plan(UUID(int=1), wanted.name, wanted.currency, 0, tuple(versions))


PLAN = plan_of()
TERMS = [Term(at("2026-01-01T00:00:00Z"), None, PLAN)]
PLANS = {PLAN.name: PLAN}


def inputs_of(*, end: str | None = None, terms: list[Term] | None = None, tenant: str = "acme",
              tenant_name: str = "Acme Ltd") -> Inputs:  # fmt: skip
    """What an invoice of November was computed from; with ``end`` it was closed early."""
    return Inputs(
        issuer="default",
        tenant=tenant,
        tenant_name=tenant_name,
        time_zone="UTC",
        month="2026-11",
        start_us=NOVEMBER.start_us,
        end_us=NOVEMBER.end_us if end is None else at(end),
        month_end_us=NOVEMBER.end_us,
        is_early=end is not None,
        rounding=Rounding.HALF_EVEN,
        terms=pin(TERMS if terms is None else terms),
        quarters=30 * 24 * 4,
    )


def drafted(rows: list[RollupRow] | None = None) -> Draft:
    """The draft of November."""
    return draft(ROWS if rows is None else rows, TERMS, NOVEMBER)


def content(rows: list[RollupRow] | None = None, inputs: Inputs | None = None) -> Content:
    """Its content."""
    return content_of(drafted(rows), inputs or inputs_of())


def part_content() -> Content:
    """The content when its plan ended after a quarter of November."""
    terms = [Term(TERMS[0].starts_us, at("2026-11-08T12:00:00Z"), PLAN)]
    inputs = inputs_of(terms=terms)
    return content_of(draft(ROWS, terms, NOVEMBER, month=inputs.charged_month), inputs)


def document(made: Content | None = None, inputs: Inputs | None = None) -> InvoiceDocument:
    """The issued invoice around a content."""
    data = encode(made or content())
    issued = Invoice(
        tenant_id=TENANT,
        id=SPOOL,
        issuer_id=TENANT,
        status=InvoiceStatus.ISSUED,
        collection=1,
        currency="USD",
        inputs=inputs or inputs_of(),
        created_us=at("2026-12-01T00:00:00Z"),
        number="INV-000017",
        content=data,
        content_hash=digest(data),
        total_minor=decode(data).total_minor,
        issued_us=at("2026-12-01T00:00:01Z"),
    )
    return document_of(issued, decode(data))
