"""What the ledger can book at most: a total above it would stop a month that is cut already, so it is looked at before."""

from collections.abc import Sequence
from decimal import Decimal

from billing import money
from billing.errors import Conflict
from billing.invoicing.draft import Draft
from billing.ledger.posting import AMOUNT_MINOR_MAX
from billing.pricing.term import Term


def check_total(draft: Draft, tenant: str) -> None:
    """That the ledger can book what a draft comes to; raises ``Conflict`` with the tenant and the amount."""
    if (draft.total_minor or 0) <= AMOUNT_MINOR_MAX:
        return
    currency, month = draft.currency or "", draft.period
    most = money.from_minor(AMOUNT_MINOR_MAX, currency)
    raise Conflict(
        f"the invoice of {tenant} for {month.title} would come to {draft.total:,f} {currency}, and no more than {most:,f} can "
        f"be booked: a price or a count is wrong. See billing invoices preview --tenant {tenant} --period {month}, correct "
        "the plan (billing plans apply FILE) or give the tenant another, and close again"
    )


def may_exceed(quantity: int, terms: Sequence[Term], without_usage: Draft) -> bool:
    """Whether so much, of whatever has a price, could cost more than can be booked; cheap, and never False when they do.

    ``without_usage`` is the draft of the period in which nothing was used: its fees and minimums are the most there are.
    """
    if without_usage.currency is None:
        return False
    dearest = max((_dearest(term) for term in terms), default=Decimal(0))
    most = money.total([money.EXACT.multiply(Decimal(quantity), dearest), without_usage.subtotal])
    # A whole unit of the currency is more than any rounding adds.
    return money.total([most, Decimal(1)]) > money.from_minor(AMOUNT_MINOR_MAX, without_usage.currency)


def _dearest(term: Term) -> Decimal:
    """The most that one token or unit costs by any version of a term's plan."""
    entries = [entry for version in term.plan.versions for entry in version.content.rates]
    prices = (price for entry in entries for price in entry.by_word.values())
    return max((price.dearest.amount(1) for price in prices), default=Decimal(0))
