"""How much of a month a plan's prices hold for: what its fee and its minimum are prorated by (billing-rules.md I6).

Counted in quarters of an hour, the grid on which months, subscriptions and versions begin, so that a share is an exact
fraction whatever the clock of a zone does: a month with a day of 25 hours has four quarters more.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from billing import money
from billing.clock import BUCKET_US
from billing.pricing.term import Term

SHARE_DECIMALS = 12
"""Decimals of a share where its fraction has no end, and not too many to print.

A minor unit depends on them only where amounts come to its half: three thirds of 0.025 are 0.024999999999, one 0.025.
"""


class Month(msgspec.Struct, frozen=True):
    """The time that an invoice of a month is for, ``[start_us, end_us)``, also when it is closed early.

    ``quarters`` are those of the whole calendar month in the tenant's zone. The time differs from it only where the zone
    was changed in between. None charges everything in full, as invoices of the first format were.
    """

    start_us: int
    end_us: int
    quarters: int | None


class Coverage(msgspec.Struct, frozen=True):
    """A part of a month: quarters of an hour of ``whole``, between its first instant and the end of its last."""

    quarters: int
    whole: int
    start_us: int
    end_us: int

    def __str__(self) -> str:
        return f"{self.quarters}/{self.whole}"

    def share(self, amount: Decimal) -> Decimal:
        """The part of an amount for a whole month, half-even at the 12th decimal.

        Two parts that make a month make the amount, if it has no more decimals than that. Of ``n`` parts the sum is off by
        at most n/2 units of the 12th decimal: each is the fee of a plan of its own, and none knows of the others.

        Raises ``ValueError`` on an amount with more decimals than a price may have.
        """
        scaled = amount.scaleb(money.PRICE_DECIMALS_MAX, context=money.EXACT)
        if scaled != int(scaled):
            raise ValueError(f"{amount} has more than {money.PRICE_DECIMALS_MAX} decimals")
        divisor = self.whole * 10 ** (money.PRICE_DECIMALS_MAX - SHARE_DECIMALS)
        units, rest = divmod(int(scaled) * self.quarters, divisor)
        units += 2 * rest > divisor or (2 * rest == divisor and units % 2)
        return Decimal(money.plain(Decimal(units).scaleb(-SHARE_DECIMALS, context=money.EXACT)))


def quarters_between(start_us: int, end_us: int) -> int:
    """The quarters of an hour in a span on the grid."""
    return (end_us - start_us) // BUCKET_US


def coverages(terms: Sequence[Term], month: Month) -> dict[str, Coverage | None]:
    """By plan, the part of a month in which its prices hold; None is all of it.

    A plan holds from its first version on, within its terms. Terms of one plan count together, and time that several of
    them cover once.

    A change of the zone makes a month longer or shorter than its calendar month by the hours between the zones. In a longer
    one all is all, so that a month never costs more than its fee; in a shorter one a plan has held for less than the month
    that the fee is for, and costs so much less. Both are in the customer's favour, since nobody can be charged for time
    that was not given or more than was agreed for a month; they are a few hours' share of a fee, once for each change.
    """
    found: dict[str, Coverage | None] = {}
    for name, spans in _spans(terms, month).items():
        quarters = sum(quarters_between(*span) for span in spans)
        is_whole = month.quarters is None or quarters >= month.quarters
        found[name] = None if is_whole else Coverage(quarters, month.quarters or 0, spans[0][0], spans[-1][1])
    return found


def _spans(terms: Sequence[Term], month: Month) -> dict[str, list[tuple[int, int]]]:
    """By plan, the spans of a month in which its prices hold, in order and apart from one another."""
    found: dict[str, list[tuple[int, int]]] = {}
    for term in sorted(terms, key=lambda term: term.starts_us):
        if not term.plan.versions:
            continue
        spans = found.setdefault(term.plan.name, [])
        begin = max(month.start_us, term.starts_us, term.plan.versions[0].effective_us)
        begin = max(begin, spans[-1][1]) if spans else begin
        end = month.end_us if term.ends_us is None else min(month.end_us, term.ends_us)
        if begin < end:
            spans.append((begin, end))
    return {name: spans for name, spans in found.items() if spans}
