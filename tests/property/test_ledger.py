"""Whatever is issued, the ledger adds up to 0 in every currency (billing-rules.md I15)."""

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger.account import Account
from billing.ledger.posting import AMOUNT_MINOR_MAX, Kind, Posting, Receipt, Transaction, invoice_issued

ids = st.uuids()
amounts = st.integers(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX)
currencies = st.sampled_from(["USD", "JPY", "KWD", "CLF"])
invoices = st.builds(Receipt, ids, ids, currencies, amounts, st.integers(0, 1 << 50))
postings = st.builds(Posting, st.sampled_from(Account), amounts.filter(bool))


@given(st.lists(invoices), ids)
def test_every_currency_of_issued_invoices_adds_up_to_0(issued: list[Receipt], new_id: UUID) -> None:
    sums: Counter[tuple[str, Account]] = Counter()
    for invoice in issued:
        made = invoice_issued(invoice, new_id)
        assert (made is None) == (invoice.total_minor == 0)
        for posting in made.postings if made else ():
            sums[invoice.currency, posting.account] += posting.amount_minor
    for currency in {invoice.currency for invoice in issued}:
        owed = sum(each.total_minor for each in issued if each.currency == currency)
        assert sums[currency, Account.RECEIVABLE] == owed == -sums[currency, Account.REVENUE]


@given(st.lists(postings, max_size=5).map(tuple), ids)
def test_a_transaction_can_be_made_exactly_when_it_balances(made: tuple[Posting, ...], new_id: UUID) -> None:
    balances = bool(made) and sum(each.amount_minor for each in made) == 0
    if balances:
        assert Transaction(new_id, new_id, Kind.INVOICE_ISSUED, None, "USD", made, 0).postings == made
    else:
        with pytest.raises(ValueError, match="add up to"):
            Transaction(new_id, new_id, Kind.INVOICE_ISSUED, None, "USD", made, 0)


@given(st.lists(postings, min_size=1, max_size=5), ids)
def test_a_last_posting_can_always_balance_the_others(made: list[Posting], new_id: UUID) -> None:
    rest = -sum(each.amount_minor for each in made)
    if 0 < abs(rest) <= AMOUNT_MINOR_MAX:
        made.append(Posting(Account.REVENUE, rest))
        whole = Transaction(new_id, new_id, Kind.INVOICE_ISSUED, None, "USD", tuple(made), 0)
        assert sum(each.amount_minor for each in whole.postings) == 0
