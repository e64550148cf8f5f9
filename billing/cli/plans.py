"""``billing plans``."""

from collections.abc import Sequence
from decimal import Decimal
from typing import BinaryIO

import click

from billing import money
from billing.cli import output
from billing.cli.context import Context
from billing.errors import InvalidInput
from billing.pricing.plan import ModelRates, Plan, Version
from billing.pricing.revision import Change, Step
from billing.pricing.service import Applied
from billing.pricing.yaml_text import BYTES_MAX
from billing.tokens.components import Component

EMPTY = "No plans yet. Make one: billing plans apply examples/plans/demo.yaml"
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
        output.draw(_prices(plan, version, _state(version, current)))


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


def _prices(plan: Plan, version: Version, state: str) -> output.Sheet:
    """One row a model pattern and number of tokens, one column a component."""
    rows = [row for entry in version.content.rates for row in _by_per(entry)]
    columns = [_column([prices.get(part) for _, _, prices in rows], plan.currency) for part in Component]
    label = f" · {version.content.label}" if version.content.label else ""
    sheet = output.Sheet(
        *(
            "Model*",
            "Per>",
            *(f"{output.words(part).capitalize().replace(' ', chr(10))}>" for part in Component),
        ),
        title=f"Version {version.number} · from {output.when(version.effective_us)} UTC · {state}{label}",
    )
    for (model, per, _), *cells in zip(rows, *columns, strict=True):
        sheet.add(model, per, *cells)
    return sheet


def _by_per(entry: ModelRates) -> list[tuple[str, str, dict[Component, Decimal]]]:
    """A pattern's prices by how many tokens they are for; what is free stands in each."""
    free = {part: unit.price for part, unit in entry.prices.items() if unit.is_free}
    by_per: dict[int, dict[Component, Decimal]] = {}
    for part, unit in entry.prices.items():
        if not unit.is_free:
            by_per.setdefault(unit.per, dict(free))[part] = unit.price
    if not by_per:
        return [(entry.model, "–", free)]
    return [(entry.model, output.count(per), prices) for per, prices in sorted(by_per.items())]


def _column(prices: Sequence[Decimal | None], currency: str) -> list[str]:
    """One component's prices, their points below one another."""
    written = iter(output.amounts([price for price in prices if price], currency))
    return ["–" if price is None else next(written) if price else "free" for price in prices]


def _document(plan: Plan) -> dict[str, object]:
    return {
        "id": plan.id,
        "plan": plan.name,
        "currency": plan.currency,
        "created_at": output.timestamp(plan.created_at_us),
        "versions": [_version_document(version) for version in plan.versions],
    }


def _version_document(version: Version) -> dict[str, object]:
    return {
        "version": version.number,
        "effective": output.timestamp(version.effective_us),
        "label": version.content.label,
        "rates": [_rates_document(entry) for entry in version.content.rates],
    }


def _rates_document(entry: ModelRates) -> dict[str, object]:
    prices = {
        part: {"price": money.plain(unit.price), "per": unit.per} for part, unit in entry.prices.items()
    }
    return {"model": entry.model, "prices": prices}


def _applied_document(applied: Applied) -> dict[str, object]:
    return {
        "plan": applied.plan,
        "currency": applied.currency,
        "is_new": applied.is_new,
        "changed": applied.changed,
        "versions": [
            _version_document(step.version)
            | {"change": step.change, "retroactive": applied.is_retroactive(step)}
            for step in applied.steps
        ],
    }
