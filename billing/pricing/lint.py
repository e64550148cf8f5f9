"""What is allowed in a plan and hardly meant: told when it is applied, and never a reason to refuse it.

Within a version, and from one version to the next (:func:`lint_change`).

No pattern can be covered by more specific ones: the shortest name that it matches has as many characters as it has fixed
ones, and a pattern with more of them needs a longer name. So a rate is out of reach only within its own entry, where
every part of a shorthand has a price of its own.
"""

from collections.abc import Iterator, Sequence

import msgspec

from billing import money
from billing.clock import BUCKET_US, MICROSECONDS_PER_SECOND, month_start
from billing.pricing.graduated import GraduatedPrice
from billing.pricing.measure import TOKENS, WORDS, Word, counted, unit_of
from billing.pricing.pattern import can_match_the_same, matches
from billing.pricing.plan import TOTAL, Content, ModelRates, PlanFile, Resolved, Version, resolve
from billing.pricing.price import Price
from billing.pricing.subscription import instant
from billing.tokens.components import Component

HOUR_US = 3600 * MICROSECONDS_PER_SECOND
PER_LARGE = 1_000_000
"""What prices of tokens are for, and hardly ever those of a unit."""


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


def lint_change(before: Version, after: Version, between: Sequence[Version] = ()) -> tuple[LintWarning, ...]:
    """Usage that the later of two versions counts in another pool: it starts anew there, in the middle of a month.

    ``between`` are the versions that stand between them: what one of those counts is for its own comparison.
    """
    earlier, later = _pools(before.content), _pools(after.content)
    passed = [version.content for version in between]
    moved = {(old, (entry.model, word)) for entry, word, old in _moved(later, before.content, passed)}
    moved |= {((entry.model, word), new) for entry, word, new in _moved(earlier, after.content, passed)}
    moved |= {
        (old, new)
        for old in earlier.keys() - later.keys()
        for new in later.keys() - earlier.keys()
        if _share_usage(old, new, earlier[old], later[new], passed)
    }
    return tuple(
        LintWarning(
            f"from {instant(after.effective_us)}, {' '.join(new)}",
            f"what {' '.join(old)} has counted before does not count here: in a month that goes on then "
            f"{_given_again(new[1], later[new][1])}. Keep the model pattern and the word as they were to count on",
        )
        for old, new in sorted(moved)
    )


def may_share_a_month(ended_us: int, starts_us: int) -> bool:
    """Whether the month that goes on when a version starts, in some time zone, began before an earlier one ended."""
    return any(month_start(starts_us + offset_us) - offset_us < ended_us for offset_us in _OFFSETS_US)


_OFFSETS_US = range(-12 * HOUR_US, 14 * HOUR_US + 1, BUCKET_US)
"""What zones lie from UTC."""

_Key = tuple[str, str]
"""A pattern and the word of a price, which name a pool within a plan."""


def _pools(content: Content) -> dict[_Key, tuple[ModelRates, Price]]:
    return {
        (entry.model, word): (entry, price)
        for entry in content.rates
        for word, price in entry.by_pool.items()
        if price.is_cumulative
    }


def _parts(entry: ModelRates, word: str) -> list[Word]:
    """What counts in an entry's pool."""
    candidates = ((part, entry.candidate(part)) for part in WORDS)
    return [part for part, found in candidates if found is not None and found.pool == word]


def _moved(
    pools: dict[_Key, tuple[ModelRates, Price]], other: Content, passed: Sequence[Content]
) -> Iterator[tuple[ModelRates, str, _Key]]:
    """Pools of one version whose usage another content counts in another pool, with that; nothing between them counts it."""
    for (pattern, word), (entry, _) in pools.items():
        for part in _parts(entry, word):
            found = _counts(other, entry, part)
            if (
                found is not None
                and (found.pattern, found.pool) != (pattern, word)
                and not any(_counts(content, entry, part) for content in passed)
            ):
                yield entry, word, (found.pattern, found.pool)


def _counts(content: Content, entry: ModelRates, part: Word) -> Resolved | None:
    """The rate by which a content counts a part of what an entry's pattern matches, in a pool."""
    found = _found(content.rates, entry, part)
    return found if found is not None and found.price.is_cumulative else None


def _share_usage(
    old: _Key,
    new: _Key,
    before: tuple[ModelRates, Price],
    after: tuple[ModelRates, Price],
    passed: Sequence[Content],
) -> bool:
    """Whether some usage may count in both of two pools, as far as their own entries say, and in none between them."""
    shared = set(_parts(before[0], old[1])) & set(_parts(after[0], new[1]))
    return can_match_the_same(old[0], new[0]) and any(
        not any(_counts(content, entry, part) for content in passed for entry in (before[0], after[0]))
        for part in shared
    )


def _given_again(word: str, price: Price) -> str:
    verb = "is" if price.allowance == 1 else "are"
    again = [f"{counted(price.allowance, word)} {verb} included once more"] if price.allowance else []
    if isinstance(price, GraduatedPrice):
        again.append("the tiers start again")
    return " and ".join(again)


def _content(content: Content) -> Iterator[tuple[str, str]]:
    for entry in content.rates:
        yield from _input_left_out(content.rates, entry)
        yield from _left_to_total(content.rates, entry)
        for word, price in entry.by_pool.items():
            yield from ((f"{entry.model} {word}", text) for text in _allowance_beyond(word, price))
            yield from ((f"{entry.model} {word}", text) for text in _per_large(entry, word, price))
    if content.minimum is not None and all(
        price.is_free for each in content.rates for price in each.by_word.values()
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
    if entry.total is not None or not any(part.is_served for part in entry.prices):
        return
    for component in Component:
        found = None if entry.candidate(component) else _found(rates, entry, component)
        if found is not None and found.priced_as == TOTAL:
            yield entry.model, f"{component} is priced by the total of {found.pattern}"
            return


def _found(rates: Sequence[ModelRates], entry: ModelRates, word: Word) -> Resolved | None:
    """The rate that prices what an entry's pattern matches, whatever its ``*`` stand for: no fixed text matches a ``*``."""
    covering = [other for other in rates if other is entry or matches(other.model, entry.model)]
    return resolve(covering, entry.model, word)


def _allowance_beyond(word: str, price: Price) -> Iterator[str]:
    first = price.tiers[0].up_to if isinstance(price, GraduatedPrice) else None
    if first is not None and price.allowance > first:
        yield (
            f"the allowance of {price.allowance:,} is larger than the first tier, to {first:,}; tiers count after the "
            f"allowance, so that the first ends at {counted(price.allowance + first, word)}"
        )


def _per_large(entry: ModelRates, word: str, price: Price) -> Iterator[str]:
    """A price of a unit for as many as tokens are priced by, as an entry's ``per`` says of all its prices.

    Characters are sold by the million, so theirs is hardly meant only beside prices of tokens.
    """
    tiers = price.tiers if isinstance(price, GraduatedPrice) else (price,)
    per, unit = max(tier.per for tier in tiers), unit_of(word)
    has_tokens = any(unit_of(other) == TOKENS for other in entry.by_word)
    if per == PER_LARGE and unit != TOKENS and (has_tokens or word != Component.CHARACTER):
        yield (
            f"the price is for {per:,} {unit}, as the entry's per says; to price each one, leave per to the version, where it "
            "is for tokens only"
        )
