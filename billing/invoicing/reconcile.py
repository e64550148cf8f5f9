"""Usage against its invoice: every token, unit and request stands in exactly one place (P14)."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from billing.invoicing.draft import Draft, Section
from billing.invoicing.quantities import add_up
from billing.metering.stored import RollupRow
from billing.pricing.measure import REQUEST, TOKENS, unit_of
from billing.pricing.plan import TOTAL
from billing.tokens.components import Component

ONE_PRICE = TOTAL
"""Where an invoice names tokens of plans with one price for all, which no component tells apart."""
REQUESTS = "requests"


class Balance(msgspec.Struct, frozen=True):
    """Quantities of one component, or all tokens or requests, and what became of them. ``unrated`` are among billed, waived and review."""

    name: str
    used: int
    billed: int
    waived: int
    review: int
    late: int
    unrated: int

    @property
    def unit(self) -> str:
        """What they are counted in."""
        return REQUESTS if self.name == REQUESTS else unit_of(self.name)

    @property
    def placed(self) -> int:
        """What stands somewhere."""
        return self.billed + self.waived + self.review + self.late

    @property
    def difference(self) -> int:
        """What was used and stands nowhere; below 0 what stands somewhere and was not used."""
        return self.used - self.placed


class Reconciliation(msgspec.Struct, frozen=True):
    """Tokens and units by component, the sum of the tokens, and requests.

    Tokens of a plan with one price for all stand in a line ``total`` and lack in those of their components; then only
    the sum says whether these are right, and ``is_equal`` goes by that.
    """

    components: tuple[Balance, ...]
    tokens: Balance
    requests: Balance

    @property
    def is_equal(self) -> bool:
        """Whether everything that was used stands in exactly one place."""
        priced_as_one = any(each.name == ONE_PRICE for each in self.components)
        parts = (each for each in self.components if not (priced_as_one and _is_in_total(each.name)))
        return all(each.difference == 0 for each in (*parts, self.tokens, self.requests))


def _is_in_total(name: str) -> bool:
    """Whether a component's quantities may stand in the line of one price for all."""
    return name == ONE_PRICE or Component(name).is_served


def reconcile(rows: Iterable[RollupRow], draft: Draft, late: Iterable[RollupRow] = ()) -> Reconciliation:
    """All usage of a period against its draft; ``late`` are those of the rows that came too late for it."""
    rows, late = list(rows), list(late)
    unrated: Counter[str] = Counter()
    for section in draft.sections:
        unrated.update(_unrated(section))
    by_place = (
        _by_component(rows),
        *(_placed(section) for section in draft.sections),
        _by_component(late),
        unrated,
    )
    names = (*(part.value for part in Component), ONE_PRICE)
    parts = tuple(Balance(name, *(quantities[name] for quantities in by_place)) for name in names)
    billed, waived, review = (section.requests for section in draft.sections)
    return Reconciliation(
        components=tuple(each for each in parts if each.used or each.placed),
        tokens=Balance(TOKENS, *map(_tokens, by_place)),
        requests=Balance(REQUESTS, _requests(rows), billed, waived, review, _requests(late), 0),
    )


def _tokens(quantities: Mapping[str, int]) -> int:
    return sum(quantity for name, quantity in quantities.items() if unit_of(name) == TOKENS)


def _by_component(rows: Iterable[RollupRow]) -> Counter[str]:
    quantities = add_up(row.components for row in rows)
    return Counter({part.value: quantities.get(part) for part in Component})


def _placed(section: Section) -> Counter[str]:
    """What a section's own lines say, not the sum it was made with. Requests that have a price are no more for that."""
    found = _unrated(section)
    for line in section.lines:
        if line.component != REQUEST:
            found[line.component] += line.quantity
    return found


def _unrated(section: Section) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in section.unrated:
        found[each.component.value] += each.quantity
    return found


def _requests(rows: Iterable[RollupRow]) -> int:
    return sum(row.requests for row in rows)
