"""From an entry of a plan's rates to the prices of the models that it is about (billing-rules.md §5)."""

from decimal import Decimal

from billing import money
from billing.errors import InvalidInput
from billing.pricing.graduated import GraduatedPrice, Tier
from billing.pricing.measure import REQUEST, TOKENS, unit_of
from billing.pricing.pattern import check_pattern
from billing.pricing.plan import SHORTHANDS, TOTAL, ModelRates
from billing.pricing.price import Price
from billing.pricing.tree import choices, items, keys, line, needed, whole
from billing.pricing.unit import PER_CHOICES, UnitPrice
from billing.pricing.yaml_text import Tree
from billing.tokens.components import Component

TIERS_MAX = 50
FREE = "free"

_PARTS = (*SHORTHANDS, *(component.value for component in Component))
_SERVED = (*SHORTHANDS, *(component.value for component in Component if component.is_served))
"""Words of tokens that ``total`` prices too."""
_PRICED = (*_PARTS, TOTAL, REQUEST)
_RATE_KEYS = ("model", "per", *_PRICED)
_PRICE_KEYS = ("price", "tiers", "allowance")
_TIER_KEYS = ("up_to", "price")


def model_rates(tree: Tree, where: str, per: int | None) -> ModelRates:
    """One entry; ``per`` is the version's, which is for tokens.

    Raises ``InvalidInput`` with the path of what is wrong, as all here does.
    """
    mapping = keys(tree, where, _RATE_KEYS)
    model = check_pattern(line(needed(mapping, "model", where), f"{where}.model"), f"{where}.model")
    own = per_units(mapping["per"], f"{where}.per") if "per" in mapping else None
    words = [word for word in _PRICED if word in mapping]
    if not words:
        raise InvalidInput(
            f"{where}: no price; give for example input and output, or say output: free", where
        )
    pers = {word: _per(word, own, per, f"{where}.per") for word in words}
    written = {word: price(mapping[word], f"{where}.{word}", pers[word], unit_of(word)) for word in words}
    _check_alone(written, where)
    return ModelRates(model, _expand(written), written.get(TOTAL), _pools(written), written.get(REQUEST))


def _per(word: str, own: int | None, per: int | None, where: str) -> int:
    """What a price of a word is for: as the entry says, else as the version says of tokens, and one of whatever else."""
    if own is not None or unit_of(word) != TOKENS:
        return own or 1
    if per is None:
        raise InvalidInput(f"{where}: say how many tokens a price is for: {choices(PER_CHOICES)}", where)
    return per


def _check_alone(written: dict[str, Price], where: str) -> None:
    parts = [word for word in written if word in _SERVED]
    if TOTAL in written and parts:
        place = f"{where}.{TOTAL}"
        raise InvalidInput(f"{place}: one price for all tokens leaves nothing for {parts[0]} to price", place)


def _expand(written: dict[str, Price]) -> dict[Component, Price]:
    """Shorthands become their parts; a part that is named itself keeps its own price."""
    prices = {part: written[word] for word, parts in SHORTHANDS.items() if word in written for part in parts}
    prices |= {component: written[component] for component in Component if component in written}
    return {component: prices[component] for component in Component if component in prices}


def _pools(written: dict[str, Price]) -> dict[Component, str]:
    return {
        part: word
        for word, parts in SHORTHANDS.items()
        if word in written and written[word].is_cumulative
        for part in parts
        if part not in written
    }


def price(tree: Tree, where: str, per: int, unit: str = TOKENS) -> Price:
    """A price: its text, ``free``, or keys with a price or tiers and an allowance, which count ``unit``."""
    if not isinstance(tree, dict):
        return UnitPrice(*_unit(tree, where, per))
    mapping = keys(tree, where, _PRICE_KEYS)
    allowance = whole(mapping["allowance"], f"{where}.allowance", unit) if "allowance" in mapping else 0
    if ("price" in mapping) == ("tiers" in mapping):
        raise InvalidInput(f"{where}: give one of price and tiers", where)
    made: Price
    if "tiers" in mapping:
        made = GraduatedPrice(_tiers(mapping["tiers"], f"{where}.tiers", per, unit), allowance)
    else:
        made = UnitPrice(*_unit(mapping["price"], f"{where}.price", per), allowance)
    if made.is_free and allowance:
        raise InvalidInput(f"{where}.allowance: what is free needs none", f"{where}.allowance")
    return made


def _tiers(tree: Tree, where: str, per: int, unit: str) -> tuple[Tier, ...]:
    tiers: list[Tier] = []
    trees = items(tree, where, TIERS_MAX)
    for index, entry in enumerate(trees):
        place = f"{where}[{index}]"
        mapping = keys(entry, place, _TIER_KEYS)
        up_to = whole(mapping["up_to"], f"{place}.up_to", unit) if "up_to" in mapping else None
        begin = (tiers[-1].up_to or 0) if tiers else 0
        _check_bound(up_to, begin, f"{place}.up_to", is_last=index == len(trees) - 1)
        tiers.append(Tier(*_unit(needed(mapping, "price", place), f"{place}.price", per), up_to))
    return tuple(tiers)


def _check_bound(up_to: int | None, begin: int, where: str, *, is_last: bool) -> None:
    if is_last and up_to is not None:
        raise InvalidInput(
            f"{where}: the last tier goes on without an end; leave it out or add a tier", where
        )
    if not is_last and up_to is None:
        raise InvalidInput(f"{where}: missing; only the last tier goes on without an end", where)
    if up_to is not None and up_to <= begin:
        raise InvalidInput(f"{where}: {up_to} is not above {begin}, where the tier begins", where)


def _unit(tree: Tree, where: str, per: int) -> tuple[Decimal, int]:
    """A price with the number of tokens or units that it is for."""
    text = line(tree, where)
    amount = Decimal(0) if text == FREE else money.parse_price(text, where)
    # 0.50 and 0.5 are one price and one hash; so is free, per whatever.
    return Decimal(money.plain(amount)), per if amount else 1


def per_tokens(tree: Tree, where: str) -> int:
    """How many tokens a version's prices are for."""
    return _chosen(tree, where, TOKENS)


def per_units(tree: Tree, where: str) -> int:
    """How many tokens, or units of what has none, an entry's prices are for."""
    return _chosen(tree, where, "tokens or units")


def _chosen(tree: Tree, where: str, what: str) -> int:
    text = line(tree, where)
    for choice in PER_CHOICES:
        if text == str(choice):
            return choice
    raise InvalidInput(f"{where}: a price is for {choices(PER_CHOICES)} {what}, got {text!r}", where)
