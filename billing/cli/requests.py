"""``billing requests``."""

from typing import TYPE_CHECKING

import click

from billing.cli import output
from billing.cli.context import Context
from billing.ids import instant_of
from billing.metering.stored import StoredCount, StoredRecord
from billing.pricing.measure import counted
from billing.tokens.usage import BESIDE, Part

if TYPE_CHECKING:  # importing it brings SQLAlchemy along
    from billing.cli.services import Services

EMPTY = "No usage records yet. They appear within seconds of a request while the recorder runs."


@click.command("requests")
@click.option("--tenant", "tenant_slug", metavar="SLUG", help="One tenant; all unless given.")
@click.option("--model", help="One model, by its public name.")
@output.limit_option
@output.json_option
@click.pass_obj
def requests(
    context: Context, tenant_slug: str | None, model: str | None, rows_max: int, as_json: bool
) -> None:
    """The latest usage records with their counts; `billing trace ID` shows one of them whole."""

    async def load(services: "Services") -> list[StoredRecord]:
        tenant_id = None if tenant_slug is None else (await services.tenants.tenant(tenant_slug)).id
        return await services.usage.recent(tenant_id, rows_max + 1, model=model)

    found = context.run(load)
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    has_units = any(_beside(each) for each in found)
    beside = ("Beside",) if has_units else ()
    counts = ("Input>", "Cached>", "Output>", "Reasoning>", *beside)
    columns = ("Time UTC", "Model*", "Outcome", *counts, "Usage id")
    output.listing(
        columns, found, lambda each: _row(each, has_units=has_units), rows_max=rows_max, empty=EMPTY
    )


def _row(record: StoredRecord, *, has_units: bool) -> tuple[output.Cell, ...]:
    counts = (record.input, record.cached_input, record.output, record.reasoning)
    return (
        output.when(instant_of(record.id)),
        record.model,
        output.words(record.outcome),
        *(_count(each) for each in counts),
        *([_beside(record)] if has_units else []),
        str(record.id),
    )


def _beside(record: StoredRecord) -> tuple[str, ...]:
    """What stands beside input and output, a line each: units, and tokens trained on."""
    known = ((part, record.parts[part]) for part in Part if part in BESIDE and part in record.parts)
    return tuple(
        f"{counted(count.value, part)}{' trained' if part is Part.TRAINING else ''}"
        for part, count in known
        if count.value is not None
    )


def _count(count: StoredCount) -> str:
    return "unknown" if count.value is None else output.count(count.value)


def _document(record: StoredRecord) -> dict[str, object]:
    counts = ("input", "cached_input", "cache_write", "output", "reasoning")
    return {
        "id": record.id,
        "at": output.timestamp(instant_of(record.id)),
        "tenant_id": record.tenant_id,
        "project_id": record.project_id,
        "key_id": record.key_id,
        "model": record.model,
        "operation": record.operation,
        "outcome": record.outcome,
        "status": record.status,
        **{name: _counted(getattr(record, name)) for name in counts},
        "parts": {name: _counted(count) for name, count in record.parts.items()},
        "ttft_us": record.ttft_us,
        "duration_us": record.duration_us,
    }


def _counted(count: StoredCount) -> dict[str, object]:
    return {"value": count.value, "provenance": count.provenance}
