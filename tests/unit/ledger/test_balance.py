from decimal import Decimal

from billing.ledger.balance import Balance, Entry
from tests.invoice_kit import SPOOL, TENANT


def test_balances_and_entries_have_their_currencys_decimals() -> None:
    assert str(Balance(TENANT, "acme", "revenue", "USD", -30).amount) == "-0.30"
    entry = Entry(SPOOL, "invoice_issued", None, None, 0, 1, "receivable", "JPY", 1_000)
    assert entry.amount == Decimal(1_000)
