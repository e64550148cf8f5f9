import pytest

from billing.errors import InvalidInput
from billing.ledger.account import Account
from billing.ledger.posting import AMOUNT_MINOR_MAX, Kind, Posting, Receipt, Transaction, invoice_issued
from tests.invoice_kit import SPOOL, TENANT

INVOICE = Receipt(TENANT, SPOOL, "USD", 28, 1_000)


def transaction(*amounts: int, currency: str = "USD") -> Transaction:
    postings = tuple(Posting(Account.RECEIVABLE, amount) for amount in amounts)
    return Transaction(TENANT, SPOOL, Kind.INVOICE_ISSUED, None, currency, postings, 0)


def test_an_issued_invoice_is_owed_and_earned() -> None:
    made = invoice_issued(INVOICE, TENANT)
    assert made is not None
    assert made.postings == (Posting(Account.RECEIVABLE, 28), Posting(Account.REVENUE, -28))
    assert (made.id, made.invoice_id, made.currency, made.created_us) == (TENANT, SPOOL, "USD", 1_000)


def test_a_total_of_nothing_is_not_posted() -> None:
    assert invoice_issued(Receipt(TENANT, SPOOL, "USD", 0, 0), TENANT) is None


@pytest.mark.parametrize("amounts", [(), (1,), (1, -2), (5, -2, -2)])
def test_a_transaction_that_does_not_balance_cannot_be_made(amounts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="add up to"):
        transaction(*amounts)


@pytest.mark.parametrize("amount", [0, AMOUNT_MINOR_MAX + 1, -AMOUNT_MINOR_MAX - 1])
def test_a_posting_of_nothing_or_too_much_cannot_be_made(amount: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Posting(Account.REVENUE, amount)


def test_what_is_no_currency_is_refused() -> None:
    with pytest.raises(InvalidInput):
        transaction(1, -1, currency="usd")
