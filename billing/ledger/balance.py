"""What is looked up in the ledger."""

from decimal import Decimal
from uuid import UUID

import msgspec

from billing import money


class Balance(msgspec.Struct, frozen=True):
    """The sum of a tenant's postings on an account in a currency, in minor units; debits are positive."""

    tenant_id: UUID
    tenant: str
    account: str
    currency: str
    amount_minor: int

    @property
    def amount(self) -> Decimal:
        """The same with the currency's decimals."""
        return money.from_minor(self.amount_minor, self.currency)


class Entry(msgspec.Struct, frozen=True):
    """A posting as it stands in a tenant's statement, with its transaction. ``number`` counts within that from 1."""

    transaction_id: UUID
    kind: str
    invoice_id: UUID | None
    invoice_number: str | None
    created_us: int
    number: int
    account: str
    currency: str
    amount_minor: int

    @property
    def amount(self) -> Decimal:
        """The same with the currency's decimals."""
        return money.from_minor(self.amount_minor, self.currency)
