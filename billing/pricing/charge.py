"""What a plan costs beside its rates: a fee for each month, and the least that a month's usage comes to."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from billing import money
from billing.pricing.coverage import Coverage, Month, coverages, quarters_between
from billing.pricing.plan import Version
from billing.pricing.rating import Rated
from billing.pricing.term import Term


class ChargeKind(StrEnum):
    """Lines that no usage makes."""

    FEE = "fee"
    MINIMUM = "minimum"
    """What the usage lacks of the minimum."""


class Charge(msgspec.Struct, frozen=True):
    """A line without a quantity: its identity is (plan, version, kind) within a period.

    ``agreed`` is the fee or the minimum as the plan says it for a month, ``coverage`` the part of the month that it is
    charged for, None for all of it. ``amount`` is what is charged, ``amount_minor`` that in the minor units that an
    invoice prints; None where nothing is rounded.
    """

    kind: ChargeKind
    plan: str
    version: int
    agreed: Decimal
    amount: Decimal
    amount_minor: int | None = None
    coverage: Coverage | None = None

    @property
    def due(self) -> Decimal:
        """What is agreed for the part of the month."""
        return _due(self.agreed, self.coverage)


def charges(
    terms: Sequence[Term],
    start_us: int,
    end_us: int,
    lines: Sequence[Rated],
    *,
    month: Month | None = None,
    subscribed: Sequence[Term] | None = None,
) -> tuple[Charge, ...]:
    """The fee and the minimum of each plan that prices something of ``[start_us, end_us)``; ``lines`` are what is billed.

    All spans of one plan in a period are one term here, as they share its allowances: a subscription that is ended and
    made again costs one fee, and its lines keep one identity. The fee is that of the first version in force in the
    term, the minimum that of the last, each for the part of the ``month`` in which the plan holds (billing-rules.md I6);
    the period is the whole month unless said. ``subscribed`` are the terms by which that part is measured, where they
    are not those that price. A true-up of 0 makes no line.
    """
    month = month or Month(start_us, end_us, quarters_between(start_us, end_us))
    covered = coverages(terms if subscribed is None else subscribed, month)
    made: list[Charge] = []
    for name, versions in _versions(terms, start_us, end_us).items():
        used = money.total([line.amount for line in lines if line.plan == name])
        coverage = covered.get(name)
        made += [*_fee(name, versions[0], coverage), *_true_up(name, versions[-1], coverage, used)]
    return tuple(made)


def _versions(terms: Sequence[Term], start_us: int, end_us: int) -> dict[str, list[Version]]:
    """By plan, the versions in force in a period by their time; plans by the time of their first."""
    found: dict[str, list[Version]] = {}
    for term in sorted(terms, key=lambda term: term.starts_us):
        begin = max(start_us, term.starts_us)
        end = end_us if term.ends_us is None else min(end_us, term.ends_us)
        at_begin = term.plan.version_at(begin)
        inside = [version for version in term.plan.versions if begin < version.effective_us < end]
        in_force = [at_begin, *inside] if at_begin else inside
        if begin < end and in_force:
            found.setdefault(term.plan.name, []).extend(in_force)
    return found


def _fee(plan: str, version: Version, coverage: Coverage | None) -> Iterator[Charge]:
    fee = version.content.monthly_fee
    if fee is not None:
        due = _due(fee, coverage)
        yield Charge(ChargeKind.FEE, plan, version.number, fee, due, coverage=coverage)


def _true_up(plan: str, version: Version, coverage: Coverage | None, used: Decimal) -> Iterator[Charge]:
    minimum = version.content.minimum
    if minimum is None:
        return
    due = _due(minimum, coverage)
    if used < due:
        lacking = money.difference(due, used)
        yield Charge(ChargeKind.MINIMUM, plan, version.number, minimum, lacking, coverage=coverage)


def _due(agreed: Decimal, coverage: Coverage | None) -> Decimal:
    return agreed if coverage is None else coverage.share(agreed)
