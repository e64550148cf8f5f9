"""Transactions that cannot be made unbalanced, and which one a business event makes (billing-rules.md §1).

Amounts are whole minor units of one currency: what an invoice printed, never what it was before rounding. Nothing is
ever changed: a correction is another transaction.
"""

from enum import StrEnum
from uuid import UUID

import msgspec

from billing.ledger.account import Account
from billing.money import check_currency

AMOUNT_MINOR_MAX = (1 << 63) - 1
"""What a bigint holds."""


class Kind(StrEnum):
    """Why a transaction was made."""

    INVOICE_ISSUED = "invoice_issued"


class Posting(msgspec.Struct, frozen=True):
    """An amount on an account: a debit above 0, a credit below. Raises ``ValueError`` on 0 and on what no bigint holds."""

    account: Account
    amount_minor: int

    def __post_init__(self) -> None:
        if not 0 < abs(self.amount_minor) <= AMOUNT_MINOR_MAX:
            raise ValueError(f"a posting of {self.amount_minor} on {self.account} cannot be")


class Transaction(msgspec.Struct, frozen=True):
    """Postings that add up to 0, of one tenant in one currency, for one reason.

    Raises ``ValueError`` when they do not, and ``InvalidInput`` on what is no currency.
    """

    tenant_id: UUID
    id: UUID
    kind: Kind
    invoice_id: UUID | None
    currency: str
    postings: tuple[Posting, ...]
    created_us: int

    def __post_init__(self) -> None:
        check_currency(self.currency, "currency")
        total = sum(posting.amount_minor for posting in self.postings)
        if total or not self.postings:
            raise ValueError(f"the postings of transaction {self.id} add up to {total}, not to 0")


class Receipt(msgspec.Struct, frozen=True):
    """What the ledger has to know of an invoice that is issued."""

    tenant_id: UUID
    invoice_id: UUID
    currency: str
    total_minor: int
    issued_us: int


def invoice_issued(invoice: Receipt, transaction_id: UUID) -> Transaction | None:
    """The tenant owes the total and it is earned; None for a total of 0, of which there is nothing to say."""
    if invoice.total_minor == 0:
        return None
    postings = (
        Posting(Account.RECEIVABLE, invoice.total_minor),
        Posting(Account.REVENUE, -invoice.total_minor),
    )
    return Transaction(
        tenant_id=invoice.tenant_id,
        id=transaction_id,
        kind=Kind.INVOICE_ISSUED,
        invoice_id=invoice.invoice_id,
        currency=invoice.currency,
        postings=postings,
        created_us=invoice.issued_us,
    )
