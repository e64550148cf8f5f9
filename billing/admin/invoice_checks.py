"""``/api/v1/invoices/{number}/…``: whether an issued invoice is what it was, what came late, and where all usage stands.

Nothing here is stored: each answer is computed on reading, by the services that the command line asks.
"""

import msgspec
from litestar import Controller, get

from billing.admin.describe import described
from billing.admin.parameters import InvoiceNumber
from billing.admin.services import Services
from billing.invoicing.late import LateUsage
from billing.invoicing.reconcile import REQUESTS, Balance, Reconciliation
from billing.pricing.measure import TOKENS


class VerificationDocument(msgspec.Struct, frozen=True):
    """An issued invoice computed again; ``differences`` are sentences, none when it is the same to the byte."""

    number: str
    is_same: bool
    differences: tuple[str, ...]


class LateDocument(msgspec.Struct, frozen=True):
    """Usage of the invoice's month that came too late for it, and what it would add; a later invoice bills it.

    ``requests_billed`` are those among the requests that would be billed. ``units`` are quantities of what has no tokens,
    by component.
    """

    number: str
    requests: int
    tokens: int
    units: dict[str, int]
    requests_billed: int
    currency: str
    amount: str
    amount_minor: int


class BalanceDocument(msgspec.Struct, frozen=True):
    """Quantities of one component and where they stand; ``difference`` is what was used and stands nowhere.

    ``unrated`` are among billed, waived and under review. All are counted in ``unit``.
    """

    name: str
    unit: str
    used: int
    billed: int
    waived: int
    under_review: int
    late: int
    unrated: int
    difference: int


class ReconciliationDocument(msgspec.Struct, frozen=True):
    """Everything used in an invoice's month against where it stands.

    Tokens of a plan with one price for all stand in a component ``total``; their own components lack them then, and the
    sum in ``tokens`` decides whether it ``is_equal``.
    """

    number: str
    is_equal: bool
    components: list[BalanceDocument]
    tokens: BalanceDocument
    requests: BalanceDocument


_NUMBER = "INV-000001"
VERIFIED = VerificationDocument(_NUMBER, is_same=True, differences=())
LATE = LateDocument(_NUMBER, 2, 1_500, {}, 2, "USD", "0.01", 1)
RECONCILED = ReconciliationDocument(
    _NUMBER,
    is_equal=True,
    components=[BalanceDocument("uncached_input", TOKENS, 2_001_500, 2_000_000, 0, 0, 1_500, 0, 0)],
    tokens=BalanceDocument("tokens", TOKENS, 2_001_500, 2_000_000, 0, 0, 1_500, 0, 0),
    requests=BalanceDocument("requests", REQUESTS, 1_002, 1_000, 0, 0, 2, 0, 0),
)


class InvoiceCheckController(Controller):
    """Checks of issued invoices."""

    path = "/invoices/{number:str}"
    tags = ("Invoices",)

    @get("/verify", **described("Verify an invoice", VERIFIED, refusals=(404, 409)))
    async def verify(self, services: Services, number: InvoiceNumber) -> VerificationDocument:
        """Compute an issued invoice again from what never changes, and compare content, hash and ledger."""
        found = await services.invoicing.verify(number)
        return VerificationDocument(found.number, found.is_same, found.differences)

    @get("/late", **described("Show late usage", LATE, refusals=(404, 409)))
    async def late(self, services: Services, number: InvoiceNumber) -> LateDocument:
        """What came after the close of an invoice's month. The invoice stays as it is."""
        return _late(number, await services.invoicing.late(number))

    @get("/reconciliation", **described("Reconcile an invoice", RECONCILED, refusals=(404, 409)))
    async def reconciliation(self, services: Services, number: InvoiceNumber) -> ReconciliationDocument:
        """Whether every token, unit and request of an invoice's month stands in exactly one place: billed, waived, under review or late."""
        return _reconciled(number, await services.invoicing.reconciliation(number))


def _late(number: str, found: LateUsage) -> LateDocument:
    return LateDocument(
        number=number,
        requests=found.requests,
        tokens=found.tokens,
        units={part.value: quantity for part, quantity in found.units.items()},
        requests_billed=found.requests_billed,
        currency=found.currency,
        # Its decimals are the currency's, zeros included.
        amount=f"{found.amount:f}",
        amount_minor=found.amount_minor,
    )


def _reconciled(number: str, found: Reconciliation) -> ReconciliationDocument:
    return ReconciliationDocument(
        number=number,
        is_equal=found.is_equal,
        components=[_balance(each) for each in found.components],
        tokens=_balance(found.tokens),
        requests=_balance(found.requests),
    )


def _balance(found: Balance) -> BalanceDocument:
    return BalanceDocument(
        name=found.name,
        unit=found.unit,
        used=found.used,
        billed=found.billed,
        waived=found.waived,
        under_review=found.review,
        late=found.late,
        unrated=found.unrated,
        difference=found.difference,
    )
