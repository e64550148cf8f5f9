"""What is allowed in a plan and hardly meant: told when it is applied, and never a reason to refuse it.

No pattern can be covered by more specific ones: the shortest name that it matches has as many characters as it has fixed
ones, and a pattern with more of them needs a longer name. So a rate is out of reach only within its own entry, where
every part of a shorthand has a price of its own.
"""

from collections.abc import Iterator, Sequence

import msgspec

from billing import money
from billing.pricing.graduated import GraduatedPrice
from billing.pricing.pattern import matches
from billing.pricing.plan import TOTAL, Content, ModelRates, PlanFile, Resolved, resolve
from billing.pricing.price import Price
from billing.pricing.subscription import instant
from billing.tokens.components import Component


class LintWarning(msgspec.Struct, frozen=True):
    """Something to look at again: where, as people find it in the file, and what."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def lint(plan: PlanFile) -> tuple[LintWarning, ...]:
    """The warnings about a plan, in the order of its versions."""
    unused = [
        LintWarning(path, "prices nothing: each of its parts has a price of its own") for path in plan.unused
    ]
    found = [
        LintWarning(f"from {instant(version.effective_us)}{place and f', {place}'}", text)
        for version in plan.versions
        for place, text in _content(version.content)
    ]
    return (*unused, *found)


def _content(content: Content) -> Iterator[tuple[str, str]]:
    for entry in content.rates:
        yield from _input_left_out(content.rates, entry)
        yield from _left_to_total(content.rates, entry)
        for word, price in _written(entry).items():
            yield from ((f"{entry.model} {word}", text) for text in _allowance_beyond(price))
    if content.minimum is not None and all(
        price.is_free for each in content.rates for price in _prices(each)
    ):
        yield (
            "minimum",
            f"every price is free, so each period costs {money.plain(content.minimum)}; monthly_fee says that",
        )


def _input_left_out(rates: Sequence[ModelRates], entry: ModelRates) -> Iterator[tuple[str, str]]:
    """Output with a price and input with none, for a model of the entry that no other entry is about."""
    if entry.candidate(Component.ANSWER_OUTPUT) and not _found(rates, entry, Component.UNCACHED_INPUT):
        yield entry.model, "input has no price and stays unrated; to give it away write input: free"


def _left_to_total(rates: Sequence[ModelRates], entry: ModelRates) -> Iterator[tuple[str, str]]:
    """Parts that an entry with prices of parts leaves to a broader one's price of all tokens."""
    if entry.total is not None:
        return
    for component in Component:
        found = None if entry.candidate(component) else _found(rates, entry, component)
        if found is not None and found.priced_as == TOTAL:
            yield entry.model, f"{component} is priced by the total of {found.pattern}"
            return


def _found(rates: Sequence[ModelRates], entry: ModelRates, component: Component) -> Resolved | None:
    """The rate that prices what an entry's pattern matches, whatever its ``*`` stand for: no fixed text matches a ``*``."""
    covering = [other for other in rates if other is entry or matches(other.model, entry.model)]
    return resolve(covering, entry.model, component)


def _allowance_beyond(price: Price) -> Iterator[str]:
    first = price.tiers[0].up_to if isinstance(price, GraduatedPrice) else None
    if first is not None and price.allowance > first:
        yield (
            f"the allowance of {price.allowance:,} is larger than the first tier, to {first:,}; tiers count after the "
            f"allowance, so that the first ends at {price.allowance + first:,} tokens"
        )


def _written(entry: ModelRates) -> dict[str, Price]:
    """Each price once, by its word in the file."""
    words = {entry.pools.get(part, part.value): price for part, price in entry.prices.items()}
    return words if entry.total is None else {TOTAL: entry.total}


def _prices(entry: ModelRates) -> list[Price]:
    return list(_written(entry).values())
