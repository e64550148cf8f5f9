"""From a plan's YAML to a plan, with the path of whatever is wrong (billing-rules.md §5)."""

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal

from billing import money
from billing.clock import BUCKET_MINUTES, is_on_grid
from billing.errors import InvalidInput
from billing.pricing.instant import OutOfYears, parse_instant
from billing.pricing.pattern import check_pattern, specificity
from billing.pricing.plan import SHORTHANDS, Content, ModelRates, PlanFile, Version, check_rates
from billing.pricing.unit import PER_CHOICES, UnitPrice
from billing.pricing.yaml_text import Tree, load
from billing.tokens.components import Component

VERSIONS_MAX = 200
RATES_MAX = 1_000
TEXT_LENGTH_MAX = 200
FREE = "free"

_PLAN_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_PRICED = (*SHORTHANDS, *(component.value for component in Component))
_PLAN_KEYS = ("plan", "currency", "label", "versions")
_VERSION_KEYS = ("effective", "per", "label", "rates")
_RATE_KEYS = ("model", "per", *_PRICED)


def parse(text: str) -> PlanFile:
    """The plan that a YAML text says; raises ``InvalidInput`` naming the path of what is wrong."""
    root = _mapping(load(text), "the file", _PLAN_KEYS)
    label = _text(root["label"], "label") if "label" in root else ""
    trees = _list(_needed(root, "versions", ""), "versions", VERSIONS_MAX)
    versions = [_version(tree, f"versions[{index}]", label) for index, tree in enumerate(trees)]
    _check_instants(versions)
    return PlanFile(
        name=_plan_name(_needed(root, "plan", "")),
        currency=money.check_currency(_text(_needed(root, "currency", ""), "currency"), "currency"),
        versions=tuple(sorted(versions, key=lambda version: version.effective_us)),
    )


def _version(tree: Tree, where: str, label: str) -> Version:
    mapping = _mapping(tree, where, _VERSION_KEYS)
    per = _per(mapping["per"], f"{where}.per") if "per" in mapping else None
    trees = _list(_needed(mapping, "rates", where), f"{where}.rates", RATES_MAX)
    rates = tuple(_rates(entry, f"{where}.rates[{index}]", per) for index, entry in enumerate(trees))
    check_rates(rates, f"{where}.rates")
    if "label" in mapping:
        label = _text(mapping["label"], f"{where}.label")
    # The order in which an operator wrote the rates means nothing: the same prices are the same content.
    content = Content(label, tuple(sorted(rates, key=_most_specific_first)))
    return Version(_instant(_needed(mapping, "effective", where), f"{where}.effective"), content)


def _most_specific_first(entry: ModelRates) -> tuple[bool, int, str]:
    exact, fixed = specificity(entry.model)
    return not exact, 0 if exact else -fixed, entry.model


def _rates(tree: Tree, where: str, per: int | None) -> ModelRates:
    mapping = _mapping(tree, where, _RATE_KEYS)
    model = check_pattern(_text(_needed(mapping, "model", where), f"{where}.model"), f"{where}.model")
    if "per" in mapping:
        per = _per(mapping["per"], f"{where}.per")
    if per is None:
        place = f"{where}.per"
        raise InvalidInput(f"{place}: say how many tokens a price is for: {_choices(PER_CHOICES)}", place)
    written = {key: _price(mapping[key], f"{where}.{key}", per) for key in _PRICED if key in mapping}
    if not written:
        raise InvalidInput(
            f"{where}: no price; give for example input and output, or say output: free", where
        )
    return ModelRates(model, _expand(written))


def _expand(written: dict[str, UnitPrice]) -> dict[Component, UnitPrice]:
    """Shorthands become their parts; a part that is named itself keeps its own price."""
    prices = {part: written[word] for word, parts in SHORTHANDS.items() if word in written for part in parts}
    prices |= {component: written[component] for component in Component if component in written}
    return {component: prices[component] for component in Component if component in prices}


def _price(tree: Tree, where: str, per: int) -> UnitPrice:
    text = _text(tree, where)
    price = Decimal(0) if text == FREE else money.parse_price(text, where)
    # 0.50 and 0.5 are one price and one hash; so is free, per whatever.
    return UnitPrice(Decimal(money.plain(price)), per if price else 1)


def _per(tree: Tree, where: str) -> int:
    text = _text(tree, where)
    for choice in PER_CHOICES:
        if text == str(choice):
            return choice
    raise InvalidInput(f"{where}: a price is for {_choices(PER_CHOICES)} tokens, got {text!r}", where)


def _instant(tree: Tree, where: str) -> int:
    text = _text(tree, where)
    example = "write for example 2026-01-01T00:00:00Z"
    try:
        instant_us = parse_instant(text)
    except OutOfYears as fault:
        raise InvalidInput(f"{where}: {text} {fault}; {example}", where) from None
    except ValueError:
        raise InvalidInput(
            f"{where}: {text!r} is not an instant with a time zone; {example}", where
        ) from None
    if not is_on_grid(instant_us):
        raise InvalidInput(f"{where}: {text} is not a multiple of {BUCKET_MINUTES} minutes; {example}", where)
    return instant_us


def _check_instants(versions: list[Version]) -> None:
    first_of: dict[int, int] = {}
    for index, version in enumerate(versions):
        if version.effective_us in first_of:
            place = f"versions[{index}].effective"
            raise InvalidInput(
                f"{place}: the same instant as versions[{first_of[version.effective_us]}]", place
            )
        first_of[version.effective_us] = index


def _plan_name(tree: Tree) -> str:
    text = _text(tree, "plan")
    if not _PLAN_NAME.fullmatch(text):
        raise InvalidInput(
            f"plan: {text!r} is not a plan name; write small letters, digits and hyphens, beginning with a letter",
            "plan",
        )
    return text


def _mapping(tree: Tree, where: str, known: tuple[str, ...]) -> dict[str, Tree]:
    if not isinstance(tree, dict):
        raise InvalidInput(f"{where}: expected keys ({', '.join(known[:4])}, …), got {_kind(tree)}", where)
    for key in tree:
        if key not in known:
            place = key if where == "the file" else f"{where}.{key}"
            raise InvalidInput(
                f"{place[:TEXT_LENGTH_MAX]}: unknown key; {_suggestion(key, known)}", place[:TEXT_LENGTH_MAX]
            )
    return tree


def _suggestion(key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key[:TEXT_LENGTH_MAX].lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys are {', '.join(known)}"


def _needed(mapping: dict[str, Tree], key: str, where: str) -> Tree:
    if key not in mapping:
        place = f"{where}.{key}" if where else key
        raise InvalidInput(f"{place}: missing", place)
    return mapping[key]


def _list(tree: Tree, where: str, length_max: int) -> list[Tree]:
    if not isinstance(tree, list):
        raise InvalidInput(f"{where}: expected a list (lines that begin with -), got {_kind(tree)}", where)
    if not 1 <= len(tree) <= length_max:
        raise InvalidInput(f"{where}: expected 1 to {length_max} entries, got {len(tree)}", where)
    return tree


def _text(tree: Tree, where: str) -> str:
    if not isinstance(tree, str):
        raise InvalidInput(f"{where}: expected one value, got {_kind(tree)}", where)
    text = tree.strip()
    if not text:
        raise InvalidInput(f"{where}: empty", where)
    if len(text) > TEXT_LENGTH_MAX or not text.isprintable():
        raise InvalidInput(
            f"{where}: expected at most {TEXT_LENGTH_MAX} printable characters on one line", where
        )
    return text


def _kind(tree: Tree) -> str:
    if isinstance(tree, str):
        return f"{tree[:40]!r}" if tree else "nothing"
    return "a list" if isinstance(tree, list) else "keys"


def _choices(values: Iterable[int]) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}"
