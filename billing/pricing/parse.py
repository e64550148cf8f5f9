"""From a plan's YAML to a plan, with the path of whatever is wrong (billing-rules.md §5)."""

import re
from collections.abc import Iterator
from decimal import Decimal

from billing import money
from billing.clock import BUCKET_MINUTES, is_on_grid
from billing.errors import InvalidInput
from billing.pricing.billable import PROVENANCES, Disposition
from billing.pricing.instant import OutOfYears, parse_instant
from billing.pricing.parse_rates import model_rates, per_tokens
from billing.pricing.pattern import specificity
from billing.pricing.plan import SHORTHANDS, Content, ModelRates, PlanFile, Version, check_rates
from billing.pricing.tree import choices, items, keys, line, needed
from billing.pricing.yaml_text import Tree, load
from billing.tokens.usage import Outcome

VERSIONS_MAX = 200
RATES_MAX = 1_000

_PLAN_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_PLAN_KEYS = ("plan", "currency", "label", "versions")
_VERSION_KEYS = ("effective", "per", "label", "rates", "monthly_fee", "minimum", "billable")
_OUTCOMES = tuple(outcome.value for outcome in Outcome)


def parse(text: str) -> PlanFile:
    """The plan that a YAML text says; raises ``InvalidInput`` naming the path of what is wrong."""
    root = keys(load(text), "", _PLAN_KEYS)
    label = line(root["label"], "label") if "label" in root else ""
    trees = items(needed(root, "versions", ""), "versions", VERSIONS_MAX)
    versions = [_version(tree, f"versions[{index}]", label) for index, tree in enumerate(trees)]
    _check_instants(versions)
    return PlanFile(
        name=_plan_name(needed(root, "plan", "")),
        currency=money.check_currency(line(needed(root, "currency", ""), "currency"), "currency"),
        versions=tuple(sorted(versions, key=lambda version: version.effective_us)),
        unused=tuple(
            path for index, tree in enumerate(trees) for path in _unused(tree, f"versions[{index}]")
        ),
    )


def _version(tree: Tree, where: str, label: str) -> Version:
    mapping = keys(tree, where, _VERSION_KEYS)
    per = per_tokens(mapping["per"], f"{where}.per") if "per" in mapping else None
    trees = items(needed(mapping, "rates", where), f"{where}.rates", RATES_MAX)
    rates = tuple(model_rates(entry, f"{where}.rates[{index}]", per) for index, entry in enumerate(trees))
    check_rates(rates, f"{where}.rates")
    if "label" in mapping:
        label = line(mapping["label"], f"{where}.label")
    content = Content(
        label=label,
        # The order in which an operator wrote the rates means nothing: the same prices are the same content.
        rates=tuple(sorted(rates, key=_most_specific_first)),
        monthly_fee=_amount(mapping, "monthly_fee", where),
        minimum=_amount(mapping, "minimum", where),
        billable=_billable(mapping["billable"], f"{where}.billable") if "billable" in mapping else {},
    )
    return Version(_instant(needed(mapping, "effective", where), f"{where}.effective"), content)


def _most_specific_first(entry: ModelRates) -> tuple[bool, int, str]:
    exact, fixed = specificity(entry.model)
    return not exact, 0 if exact else -fixed, entry.model


def _amount(mapping: dict[str, Tree], key: str, where: str) -> Decimal | None:
    """An amount for a period; 0 is none."""
    if key not in mapping:
        return None
    place = f"{where}.{key}"
    amount = money.parse_price(line(mapping[key], place), place)
    return Decimal(money.plain(amount)) if amount else None


def _billable(tree: Tree, where: str) -> dict[str, dict[str, Disposition]]:
    """Outcome to provenance to disposition; a word alone is for every provenance."""
    found: dict[str, dict[str, Disposition]] = {}
    for outcome, said in sorted(keys(tree, where, _OUTCOMES).items()):
        place = f"{where}.{outcome}"
        if isinstance(said, dict):
            each = keys(said, place, PROVENANCES)
            found[outcome] = {
                known: _disposition(each[known], f"{place}.{known}") for known in PROVENANCES if known in each
            }
        else:
            found[outcome] = dict.fromkeys(PROVENANCES, _disposition(said, place))
    return {outcome: said for outcome, said in found.items() if said}


def _disposition(tree: Tree, where: str) -> Disposition:
    text = line(tree, where)
    if text not in set(Disposition):
        raise InvalidInput(f"{where}: usage is to {choices(Disposition)}, got {text!r}", where)
    return Disposition(text)


def _unused(tree: Tree, where: str) -> Iterator[str]:
    """Paths of shorthands whose parts all have prices of their own; the tree was found to be right before."""
    trees = tree["rates"] if isinstance(tree, dict) else []
    for index, entry in enumerate(trees):
        for word, parts in SHORTHANDS.items():
            if word in entry and all(part in entry for part in parts):
                yield f"{where}.rates[{index}].{word}"


def _instant(tree: Tree, where: str) -> int:
    text = line(tree, where)
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
    text = line(tree, "plan")
    if not _PLAN_NAME.fullmatch(text):
        raise InvalidInput(
            f"plan: {text!r} is not a plan name; write small letters, digits and hyphens, beginning with a letter",
            "plan",
        )
    return text
