"""``/api/v1/invoices``: what tenants owe, before a month is closed, closing it, and as it was issued."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import JSONBody

from billing.admin.describe import JSON, described
from billing.admin.moment import written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read_id
from billing.admin.parameters import InMonth, InvoiceNumber, OfMonth, OfTenant, TenantSlug
from billing.admin.preview import PREVIEW, PreviewDocument, preview_document
from billing.admin.services import Services
from billing.exports.invoice_csv import COLUMNS, invoice_csv
from billing.exports.invoice_json import invoice_json
from billing.invoicing.close import CloseResult, CloseState, NoInvoice
from billing.invoicing.content import Apart, Content, Line, digest, encode
from billing.invoicing.invoice import InvoiceStatus, InvoiceSummary

CSV = "text/csv"
WAIT_MAX_S = 60
"""How long a close may wait for records that are on their way."""


class InvoiceDocument(msgspec.Struct, frozen=True):
    """An invoice in a list. A draft was cut and not yet issued: the next close issues it."""

    id: UUID
    number: str | None
    status: InvoiceStatus
    tenant: str
    tenant_name: str
    period: str
    start: str
    end: str
    time_zone: str
    is_early: bool
    currency: str
    total: str | None
    total_minor: int | None
    issued_at: str | None


class IssuedDocument(msgspec.Struct, frozen=True):
    """An issued invoice. ``content`` is the stored content, byte for byte, ``content_sha256`` its SHA-256."""

    content: Content
    content_sha256: str
    id: UUID
    issued_at: str
    number: str


class Close(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A month to be closed, of one tenant or of all. ``early`` closes one that goes on, to the next quarter hour.

    ``wait_s`` seconds it waits for records that are on their way; null does not wait, and they are late usage then.
    """

    period: str
    tenant: str | None = None
    early: bool = False
    wait_s: Annotated[int, msgspec.Meta(ge=0, le=WAIT_MAX_S)] | None = WAIT_MAX_S


class ClosedDocument(msgspec.Struct, frozen=True):
    """What a close did for a tenant: its invoice, or the reason why there is none."""

    tenant: str
    period: str
    state: CloseState
    invoice: InvoiceDocument | None
    reason: NoInvoice | None
    detail: str


class ClosedDocuments(msgspec.Struct, frozen=True):
    """What a close did, by tenant."""

    data: list[ClosedDocument]


NUMBER = "INV-000001"
"""As the first invoice of an issuer is numbered."""
INVOICE = InvoiceDocument(
    id=UUID("019ab3f4-8c00-7000-8000-000000000013"),
    number=NUMBER,
    status=InvoiceStatus.ISSUED,
    tenant="acme",
    tenant_name="Acme Inc.",
    period="2026-11",
    start="2026-10-31T18:30:00Z",
    end="2026-11-30T18:30:00Z",
    time_zone="Asia/Kolkata",
    is_early=False,
    currency="USD",
    total="21.00",
    total_minor=2100,
    issued_at="2026-11-30T18:35:00Z",
)
_USAGE = Line(
    kind="usage",
    plan="standard",
    plan_version=1,
    model="llama-3.1-70b",
    component="uncached_input",
    quantity=2_000_000,
    price="0.5",
    per=1_000_000,
    amount_exact="1",
    amount_minor=100,
    amount="1.00",
)
_FEE = Line(
    kind="fee",
    plan="standard",
    plan_version=1,
    agreed="20",
    amount_exact="20",
    amount_minor=2000,
    amount="20.00",
)
_NOTHING = Apart(
    requests=0, requests_unknown=0, tokens=0, tokens_unrated=0, worth="0", endings=(), unrated=()
)
_CONTENT = Content(
    format=1,
    issuer="default",
    tenant="acme",
    tenant_name="Acme Inc.",
    month="2026-11",
    start="2026-10-31T18:30:00Z",
    end="2026-11-30T18:30:00Z",
    time_zone="Asia/Kolkata",
    is_early=False,
    note=None,
    currency="USD",
    rounding="half_even",
    label="Standard",
    lines=(_USAGE, _FEE),
    requests=1_000,
    requests_unknown=0,
    tokens=2_000_000,
    tokens_unrated=0,
    unrated=(),
    waived=_NOTHING,
    review=_NOTHING,
    subtotal="21",
    total_minor=2100,
    total="21.00",
)
ISSUED = IssuedDocument(
    _CONTENT,
    digest(encode(_CONTENT)).hex(),
    UUID("019ab3f4-8c00-7000-8000-000000000013"),
    "2026-11-30T18:35:00Z",
    NUMBER,
)
CLOSED = ClosedDocuments([ClosedDocument("acme", "2026-11", CloseState.ISSUED, INVOICE, None, "")])


class InvoiceController(Controller):
    """Invoices."""

    tags = ("Invoices",)

    @get("/invoices", **described("List invoices", Page([INVOICE], None), refusals=(404,)))
    async def list_invoices(
        self,
        services: Services,
        tenant: OfTenant = None,
        period: OfMonth = None,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
    ) -> Page[InvoiceDocument]:
        """Invoices, newest first."""
        found = await services.invoicing.invoices(tenant, period, after=read_id(after), rows_max=limit + 1)
        return page(found, limit, document, lambda summary: (str(summary.id),))

    @get(
        "/invoices/{number:str}",
        **described("Show an invoice", ISSUED, refusals=(404,), container=IssuedDocument),
    )
    async def get_invoice(self, services: Services, number: InvoiceNumber) -> Response[bytes]:
        """An issued invoice. It never changes; later usage and corrections are lines of later invoices."""
        return Response(invoice_json(await services.invoicing.invoice(number)), media_type=JSON)

    @get(
        "/invoices/{number:str}/csv",
        **described(
            "Export an invoice", ",".join(COLUMNS) + "\r\n", refusals=(404,), media_type=CSV, container=str
        ),
    )
    async def get_csv(self, services: Services, number: InvoiceNumber) -> Response[str]:
        """The lines of an issued invoice as CSV; their amounts add up to its total."""
        return Response(invoice_csv(await services.invoicing.invoice(number)), media_type=CSV)

    @get(
        "/tenants/{tenant:str}/invoice-preview",
        **described("Preview an invoice", PREVIEW, refusals=(404,)),
    )
    async def preview(
        self, services: Services, tenant: TenantSlug, period: InMonth = None
    ) -> PreviewDocument:
        """What a tenant owes for a month as of now. More usage may come until the month is closed."""
        return preview_document(await services.invoicing.preview(tenant, period))

    @post(
        "/invoices/close",
        status_code=200,
        **described("Close a month", CLOSED, sent=Close("2026-11", "acme"), refusals=(404, 409)),
    )
    async def close(self, services: Services, data: JSONBody[Close]) -> ClosedDocuments:
        """Issue the invoices of a month, of one tenant or of all. Closing again changes nothing.

        A month that has not ended is refused unless `early` is said. Of all tenants, those without an invoice are in
        the answer with the reason; of one tenant, the reason is the error.
        """
        wait_s = None if data.wait_s is None else float(data.wait_s)
        results = await services.invoicing.close(data.period, data.tenant, early=data.early, wait_s=wait_s)
        return ClosedDocuments([_closed(result) for result in results])


def document(summary: InvoiceSummary) -> InvoiceDocument:
    """An invoice as a list shows it."""
    return InvoiceDocument(
        id=summary.id,
        number=summary.number,
        status=summary.status,
        tenant=summary.tenant,
        tenant_name=summary.tenant_name,
        period=str(summary.period),
        start=written(summary.period.start_us),
        end=written(summary.period.end_us),
        time_zone=summary.time_zone,
        is_early=summary.is_early,
        currency=summary.currency,
        total=None if summary.total is None else f"{summary.total:f}",
        total_minor=summary.total_minor,
        issued_at=written_or_none(summary.issued_us),
    )


def _closed(result: CloseResult) -> ClosedDocument:
    invoice = None if result.invoice is None else document(result.invoice)
    return ClosedDocument(result.tenant, result.month, result.state, invoice, result.reason, result.detail)
