"""``billing events``."""

from typing import TYPE_CHECKING, BinaryIO

import click

from billing.cli import output
from billing.cli.context import Context
from billing.errors import InvalidInput
from billing.metering.external.body import EVENTS_MAX, Body, read_body
from billing.metering.external.verdict import Verdict, Word, counted

if TYPE_CHECKING:  # importing it brings SQLAlchemy along
    from billing.cli.services import Services

FILE_BYTES_MAX = 64 << 20
FILE_EVENTS_MAX = 200_000
"""A file is sent in batches as large as one request may be; each is a transaction of its own."""


@click.group("events")
def events() -> None:
    """Usage that did not pass the gateway: training, batch jobs, other gateways."""


@events.command("send")
@click.argument("file", type=click.File("rb"))
@output.limit_option
@output.json_option
@click.pass_context
def send(ctx: click.Context, file: BinaryIO, rows_max: int, as_json: bool) -> None:
    """Record the CloudEvents of FILE, one or an array of them, as POST /v1/usage/events does. - reads standard input.

    Sending a file twice changes nothing. The exit code is 1 when an event was rejected or contradicts an earlier one.
    """
    context: Context = ctx.obj
    body = _body(file.read(FILE_BYTES_MAX + 1))
    verdicts = context.run(lambda services: _send(services, body))
    if as_json:
        output.document([_document(each) for each in verdicts])
    else:
        columns = ("Verdict", "Source*", "Id*", "Usage id", "Reason*")
        output.listing(columns, verdicts, _row, rows_max=rows_max, empty="The file holds no events.")
        output.note(_sentence(verdicts))
    ctx.exit(1 if any(each.verdict in {Word.CONFLICT, Word.REJECTED} for each in verdicts) else 0)


def _body(raw: bytes) -> Body:
    if len(raw) > FILE_BYTES_MAX:
        raise InvalidInput(f"the file is larger than {FILE_BYTES_MAX >> 20} MiB")
    return read_body(raw.removeprefix(b"\xef\xbb\xbf"), events_max=FILE_EVENTS_MAX)


async def _send(services: "Services", body: Body) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for start in range(0, len(body.values), EVENTS_MAX):
        part = body.values[start : start + EVENTS_MAX]
        verdicts += await services.events.record(part, first=start if body.is_batch else None)
    return verdicts


def _sentence(verdicts: list[Verdict]) -> str:
    told = [f"{count:,} {word}" for word, count in counted(verdicts).items() if count]
    return f"{len(verdicts):,} events: {', '.join(told)}." if told else "Nothing was sent."


def _row(verdict: Verdict) -> tuple[str, ...]:
    return (
        verdict.verdict,
        verdict.source or "–",
        verdict.id or "–",
        str(verdict.usage_id) if verdict.usage_id else "–",
        verdict.reason or "",
    )


def _document(verdict: Verdict) -> dict[str, object]:
    return {name: getattr(verdict, name) for name in verdict.__struct_fields__}
