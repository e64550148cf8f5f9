"""Usage against its invoice: every token and request stands in exactly one place (P14)."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from billing.invoicing.draft import Draft, Section, tokens_of
from billing.metering.stored import RollupRow
from billing.tokens.components import Component

ONE_PRICE = "total"
"""Where an invoice names tokens of plans with one price for all, which no component tells apart."""


class Balance(msgspec.Struct, frozen=True):
    """Quantities of one component, and what became of them. ``unrated`` are among billed, waived and review."""

    name: str
    used: int
    billed: int
    waived: int
    review: int
    late: int
    unrated: int

    @property
    def placed(self) -> int:
        """What stands somewhere."""
        return self.billed + self.waived + self.review + self.late

    @property
    def difference(self) -> int:
        """What was used and stands nowhere; below 0 what stands somewhere and was not used."""
        return self.used - self.placed


class Reconciliation(msgspec.Struct, frozen=True):
    """Tokens by component with their sum, and requests.

    Tokens of a plan with one price for all stand in a line ``total`` and lack in those of their components; then only
    the sum says whether it is right, and ``is_equal`` goes by that.
    """

    components: tuple[Balance, ...]
    tokens: Balance
    requests: Balance

    @property
    def is_equal(self) -> bool:
        """Whether everything that was used stands in exactly one place."""
        priced_as_one = any(each.name == ONE_PRICE for each in self.components)
        parts = all(each.difference == 0 for each in self.components) or priced_as_one
        return parts and self.tokens.difference == 0 and self.requests.difference == 0


def reconcile(rows: Iterable[RollupRow], draft: Draft, late: Iterable[RollupRow] = ()) -> Reconciliation:
    """All usage of a period against its draft; ``late`` are those of the rows that came too late for it."""
    rows, late = list(rows), list(late)
    used, too_late = _by_component(rows), _by_component(late)
    billed, waived, review = (_placed(section) for section in draft.sections)
    unrated: Counter[str] = Counter()
    for section in draft.sections:
        unrated.update(_unrated(section))
    parts = tuple(
        Balance(name, used[name], billed[name], waived[name], review[name], too_late[name], unrated[name])
        for name in (*(part.value for part in Component), ONE_PRICE)
    )
    return Reconciliation(
        components=tuple(each for each in parts if each.used or each.placed),
        tokens=Balance(
            "tokens",
            used.total(),
            billed.total(),
            waived.total(),
            review.total(),
            too_late.total(),
            unrated.total(),
        ),
        requests=Balance(
            "requests",
            _requests(rows),
            draft.billed.requests,
            draft.waived.requests,
            draft.review.requests,
            _requests(late),
            0,
        ),
    )


def _by_component(rows: Iterable[RollupRow]) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in rows:
        tokens = tokens_of(row)
        found.update({part.value: tokens.get(part) for part in Component})
    return found


def _placed(section: Section) -> Counter[str]:
    """What a section's own lines say, not the sum it was made with."""
    found = _unrated(section)
    for line in section.lines:
        found[line.component] += line.quantity
    return found


def _unrated(section: Section) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in section.unrated:
        found[each.component.value] += each.quantity
    return found


def _requests(rows: Iterable[RollupRow]) -> int:
    return sum(row.requests for row in rows)
