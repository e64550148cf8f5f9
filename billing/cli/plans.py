"""``billing plans``."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import BinaryIO

import click

from billing import money
from billing.cli import output
from billing.cli.context import Context
from billing.errors import InvalidInput
from billing.pricing.billable import PROVENANCES, Disposition
from billing.pricing.graduated import GraduatedPrice
from billing.pricing.measure import TOKENS, counted, unit_of
from billing.pricing.plan import TOTAL, Content, ModelRates, Plan, Version
from billing.pricing.price import Price
from billing.pricing.revision import Change, Step
from billing.pricing.service import Applied
from billing.pricing.unit import UnitPrice
from billing.pricing.yaml_text import BYTES_MAX
from billing.tokens.components import Component

EMPTY = "No plans yet. Make one: billing plans apply examples/plans/demo.yaml"
BELOW = "below"
"""In the place of a price that depends on how much was used, and stands in a table of its own."""
OF_TEXT = (
    Component.UNCACHED_INPUT, Component.CACHED_INPUT, Component.CACHE_WRITE, Component.ANSWER_OUTPUT, Component.REASONING,
)  # fmt: skip
"""What has a column of its own; what fewer plans price stands in a table of its own, a row a price."""
STATE_CURRENT, STATE_PAST, STATE_FUTURE = "in force", "past", "ahead"


@click.group("plans")
def plans() -> None:
    """Price plans from YAML, in dated versions that never change."""


@plans.command("apply")
@click.argument("file", type=click.File("rb"))
@output.json_option
@click.pass_obj
def apply(context: Context, file: BinaryIO, as_json: bool) -> None:
    """Make the plan that FILE says, or add the versions that are new in it. - reads standard input.

    Applying a file twice changes nothing; a version that is stored never changes.
    """
    text = _text(file.read(BYTES_MAX + 1))
    applied = context.run(lambda services: services.pricing.apply(text))
    if as_json:
        output.document(_applied_document(applied))
        return
    what = (
        "is new"
        if applied.is_new
        else "has new versions"
        if applied.changed
        else "is as the file says already"
    )
    output.line(f"Plan {applied.plan} ({applied.currency}) {what}.")
    sheet = output.Sheet("Version>", "Effective (UTC)", "Change", "*")
    for step in applied.steps:
        sheet.add(*_step_row(applied, step))
    output.draw(sheet)
    for warning in applied.warnings:
        output.note(f"warning: {warning}")
    if applied.is_new:
        output.note(f"Next: billing subscriptions create --tenant TENANT --plan {applied.plan}")


@plans.command("list")
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, rows_max: int, as_json: bool) -> None:
    """Show plans by name."""
    from billing.infra.system import now_us

    found = context.run(lambda services: services.pricing.list_plans(rows_max + 1))
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    columns = ("Plan", "Currency", "Versions>", "In force since\n(UTC)", "Label*")
    output.listing(columns, found, lambda plan: _row(plan, now_us()), rows_max=rows_max, empty=EMPTY)


@plans.command("show")
@click.argument("name")
@output.json_option
@click.pass_obj
def show(context: Context, name: str, as_json: bool) -> None:
    """Show every version of the plan NAME with its prices."""
    from billing.infra.system import now_us

    plan = context.run(lambda services: services.pricing.plan(name))
    if as_json:
        output.document(_document(plan))
        return
    current = plan.version_at(now_us())
    output.heading(f"Plan {plan.name}, prices in {plan.currency}")
    for version in plan.versions:
        _draw_version(plan, version, _state(version, current))


def _text(raw: bytes) -> str:
    if len(raw) > BYTES_MAX:
        raise InvalidInput(f"the file is larger than {BYTES_MAX // 1024} KiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise InvalidInput(
            f"the file is not UTF-8 text: byte {fault.start + 1} is {raw[fault.start]:#04x}"
        ) from None


def _step_row(applied: Applied, step: Step) -> tuple[str, ...]:
    remark = ""
    if applied.is_retroactive(step):
        remark = "lies in the past: previews since then change"
    elif step.change is Change.KEPT:
        remark = "not in the file"
    return str(step.version.number), output.when(step.version.effective_us), step.change, remark


def _row(plan: Plan, now_us: int) -> tuple[str, ...]:
    version = plan.version_at(now_us)
    since = output.when(version.effective_us) if version else "not yet"
    label = version.content.label if version else ""
    return plan.name, plan.currency, str(len(plan.versions)), since, label or "–"


def _state(version: Version, current: Version | None) -> str:
    if version == current:
        return STATE_CURRENT
    return STATE_FUTURE if current is None or version.effective_us > current.effective_us else STATE_PAST


def _draw_version(plan: Plan, version: Version, state: str) -> None:
    """Prices that are the same whatever was used, those that count over a period, and what belongs to no rate."""
    content = version.content
    label = f" · {content.label}" if content.label else ""
    title = f"Version {version.number} · from {output.when(version.effective_us)} UTC · {state}{label}"
    every = (_prices, _others, _counted)
    sheets = [sheet for make in every if (sheet := make(content, plan.currency)).rows]
    sheets[0].title = title
    for sheet in sheets:
        output.draw(sheet)
    beside = _beside(content, plan.currency)
    if beside:
        output.facts(beside)


def _prices(content: Content, currency: str) -> output.Sheet:
    """One row a model pattern and number of tokens, one column a component of text."""
    rows = [row for entry in content.rates for row in _by_per(entry)]
    words = [word for word in (*OF_TEXT, TOTAL) if word != TOTAL or any(TOTAL in row[2] for row in rows)]
    columns = [_column([prices.get(word) for _, _, prices in rows], currency) for word in words]
    titles = (f"{output.words(word).capitalize().replace(' ', chr(10))}>" for word in words)
    sheet = output.Sheet("Model*", "Per>", *titles)
    for (model, per, _), *cells in zip(rows, *columns, strict=True):
        sheet.add(model, per, *cells)
    return sheet


def _is_of_text(word: str) -> bool:
    return word in OF_TEXT or word == TOTAL


def _others(content: Content, currency: str) -> output.Sheet:
    """Prices of other kinds of tokens, of training, of units and of requests, that do not count over a period."""
    rows = [
        (entry.model, word, price.dearest)
        for entry in content.rates
        for word, price in entry.by_word.items()
        if not _is_of_text(word) and not price.is_cumulative
    ]
    prices = output.amounts([price.price for *_, price in rows], currency)
    sheet = output.Sheet("Model*", "Priced", "Per>", "Price>")
    before = ""
    for (model, word, price), amount in zip(rows, prices, strict=True):
        per = "–" if price.is_free else counted(price.per, word)
        name = "" if model == before else model
        sheet.add(name, output.words(word), per, "free" if price.is_free else amount)
        before = model
    return sheet


def _by_per(entry: ModelRates) -> list[tuple[str, str, dict[str, Decimal | str]]]:
    """A pattern's prices by how many tokens they are for; what is free, or counts over a period, stands in each."""
    in_each: dict[str, Decimal | str] = {}
    by_per: dict[int, dict[str, Decimal | str]] = {}
    of_text = {word: price for word, price in entry.by_word.items() if _is_of_text(word)}
    for word, price in of_text.items():
        if price.is_cumulative:
            in_each[word] = BELOW
        elif price.is_free:
            in_each[word] = Decimal(0)
        else:
            by_per.setdefault(price.dearest.per, {})[word] = price.dearest.price
    if not by_per and set(in_each.values()) <= {BELOW}:
        return []
    if not by_per:
        return [(entry.model, "–", in_each)]
    return [(entry.model, output.count(per), in_each | prices) for per, prices in sorted(by_per.items())]


def _column(prices: Sequence[Decimal | str | None], currency: str) -> list[str]:
    """One component's prices, their points below one another."""
    written = iter(
        output.amounts([price for price in prices if isinstance(price, Decimal) and price], currency)
    )
    return [_cell(price, written) for price in prices]


def _cell(price: Decimal | str | None, written: Iterator[str]) -> str:
    if price is None:
        return "–"
    if isinstance(price, str):
        return price
    return next(written) if price else "free"


def _counted(content: Content, currency: str) -> output.Sheet:
    """Prices with tiers or an allowance: what each next span of a period's usage costs, counted together."""
    rows = [
        (entry.model, word, span, unit)
        for entry in content.rates
        for word, price in entry.by_pool.items()
        if price.is_cumulative
        for span, unit in _steps(word, price)
    ]
    has_units = any(unit_of(word) != TOKENS for _, word, *_ in rows)
    prices = output.amounts([unit.price if unit else Decimal(0) for *_, unit in rows], currency)
    spans = "Used in a period" if has_units else "Tokens of a period"
    sheet = output.Sheet("Model*", "Counted together", spans, "Per>", "Price>")
    before = ("", "")
    for (model, word, span, unit), price in zip(rows, prices, strict=True):
        names = ("" if model == before[0] else model, "" if (model, word) == before else output.words(word))
        per = output.count(unit.per) if unit and not unit.is_free else "–"
        sheet.add(*names, span, per, "included" if unit is None else "free" if unit.is_free else price)
        before = (model, word)
    return sheet


def _steps(word: str, price: Price) -> Iterator[tuple[str, UnitPrice | None]]:
    """Spans of what a word counts as it comes in a period, with their price; None is included."""
    begin = 0
    if price.allowance:
        yield f"first {_span(price.allowance, word)}", None
    for tier in price.tiers if isinstance(price, GraduatedPrice) else ():
        if tier.up_to is not None:
            first = "next" if begin or price.allowance else "first"
            yield f"{first} {_span(tier.up_to - begin, word)}", tier.unit
            begin = tier.up_to
    yield "all others", price.tiers[-1].unit if isinstance(price, GraduatedPrice) else price.dearest


def _span(quantity: int, word: str) -> str:
    """A quantity, with its unit where that is not tokens."""
    return output.count(quantity) if unit_of(word) == TOKENS else counted(quantity, word)


def _beside(content: Content, currency: str) -> list[tuple[str, str]]:
    """What a version says beside its rates."""
    amounts = (("Monthly fee", content.monthly_fee), ("Minimum", content.minimum))
    facts = [
        (name, f"{output.amount(amount, currency)} {currency} a period")
        for name, amount in amounts
        if amount is not None
    ]
    said = [_dispositions(outcome, content.billable[outcome]) for outcome in sorted(content.billable)]
    return [*facts, ("Billable", "; ".join(said))] if said else facts


def _dispositions(outcome: str, said: Mapping[str, Disposition]) -> str:
    if len(said) == len(PROVENANCES) and len(set(said.values())) == 1:
        return f"{output.words(outcome)}: {next(iter(said.values()))}"
    each = (
        f"{output.words(outcome)}, {output.provenance(known)}: {said[known]}"
        for known in PROVENANCES
        if known in said
    )
    return "; ".join(each)


def _document(plan: Plan) -> dict[str, object]:
    return {
        "id": plan.id,
        "plan": plan.name,
        "currency": plan.currency,
        "created_at": output.timestamp(plan.created_at_us),
        "versions": [_version_document(version) for version in plan.versions],
    }


def _version_document(version: Version) -> dict[str, object]:
    content = version.content
    return {
        "version": version.number,
        "effective": output.timestamp(version.effective_us),
        "label": content.label,
        "rates": [_rates_document(entry) for entry in content.rates],
        "monthly_fee": content.monthly_fee,
        "minimum": content.minimum,
        "billable": content.billable,
    }


def _rates_document(entry: ModelRates) -> dict[str, object]:
    prices = {word: _price_document(entry, word) for word in entry.by_word}
    return {"model": entry.model, "prices": prices}


def _price_document(entry: ModelRates, word: str) -> dict[str, object]:
    """A price; ``pool`` is the word whose prices count together over a period, null where nothing counts."""
    price = entry.by_word[word]
    pool = entry.pool(word) if price.is_cumulative else None
    counts = {"unit": unit_of(word), "allowance": price.allowance, "pool": pool}
    if isinstance(price, UnitPrice):
        return {"shape": "unit", "price": money.plain(price.price), "per": price.per, **counts}
    tiers = [{"up_to": tier.up_to, "price": money.plain(tier.price), "per": tier.per} for tier in price.tiers]
    return {"shape": "graduated", "tiers": tiers, **counts}


def _applied_document(applied: Applied) -> dict[str, object]:
    return {
        "plan": applied.plan,
        "currency": applied.currency,
        "is_new": applied.is_new,
        "changed": applied.changed,
        "warnings": [{"where": each.where, "text": each.text} for each in applied.warnings],
        "versions": [
            _version_document(step.version)
            | {"change": step.change, "retroactive": applied.is_retroactive(step)}
            for step in applied.steps
        ],
    }
