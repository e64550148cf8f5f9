"""``billing limits``."""

from uuid import UUID

import click

from billing.cli import output
from billing.cli.context import Context
from billing.cli.values import INSTANT
from billing.errors import InvalidInput
from billing.limits.limit import Enforce, Limit, Meter, NamedLimit, OnFailure

EXAMPLE = "billing limits set --tenant {} --requests 50"
WINDOWS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


@click.group("limits")
def limits() -> None:
    """How much a tenant, one of its projects or one of its keys may use."""


@limits.command("set")
@output.tenant_option
@click.option("--project", "project_slug", metavar="SLUG", help="Only what this project uses.")
@click.option(
    "--key", metavar="KEY", help="Only what this key uses, named by its visible part (sk-…) or its id."
)
@click.option(
    "--model", metavar="NAME", help="Only on this model, by its public name; on all together unless given."
)
@click.option("--requests", type=int, metavar="N", help="Requests that may begin.")
@click.option("--tokens", type=int, metavar="N", help="Tokens, input and output together.")
@click.option("--input-tokens", type=int, metavar="N", help="Tokens of input.")
@click.option("--output-tokens", type=int, metavar="N", help="Tokens of output.")
@click.option("--concurrency", type=int, metavar="N", help="Requests that may run at once.")
@click.option(
    "--per", "window", type=click.Choice(list(WINDOWS)), help="In which time; a minute unless given."
)
@click.option(
    "--burst", type=int, metavar="N", help="The most at one moment; what the time allows unless given."
)
@click.option(
    "--strict",
    is_flag=True,
    help="Never more in a minute of the clock; each request reserves its worst case.",
)
@click.option(
    "--per-end-user",
    is_flag=True,
    help="For each end user by itself (`user` of a request), not for all together.",
)
@click.option("--shadow", is_flag=True, help="Refuse nothing; count what would have been refused.")
@click.option(
    "--on-failure",
    type=click.Choice([each.value for each in OnFailure]),
    default=OnFailure.CLOSED.value,
    show_default=True,
    help="While Valkey is away: refuse, or let each gateway worker admit its share.",
)
@output.json_option
@click.pass_obj
def set_(
    context: Context,
    tenant_slug: str,
    project_slug: str | None,
    key: str | None,
    model: str | None,
    requests: int | None,
    tokens: int | None,
    input_tokens: int | None,
    output_tokens: int | None,
    concurrency: int | None,
    window: str | None,
    burst: int | None,
    strict: bool,
    per_end_user: bool,
    shadow: bool,
    on_failure: str,
    as_json: bool,
) -> None:
    """Make a limit, or change the one of the same owner, model, kind and time. What was used of it stays used."""
    meter, amount = _one_of(
        {
            Meter.REQUESTS: requests,
            Meter.TOKENS: tokens,
            Meter.INPUT_TOKENS: input_tokens,
            Meter.OUTPUT_TOKENS: output_tokens,
            Meter.CONCURRENCY: concurrency,
        }
    )
    done = context.run(
        lambda services: services.limits.set(
            tenant_slug,
            meter,
            amount,
            project_slug=project_slug,
            key=key,
            model=model,
            window_s=None if window is None else WINDOWS[window],
            per_end_user=per_end_user,
            strict=strict,
            burst=burst,
            enforce=Enforce.SHADOW if shadow else Enforce.ENFORCED,
            on_failure=OnFailure(on_failure),
        )
    )
    if as_json:
        output.document(_document(done.named))
        return
    output.line(f"{done.limit.sentence(done.named.owner)}: {_how(done.limit)}.")
    output.note("Every gateway follows within a second." if done.is_changed else "It was so already.")


@limits.command("boost")
@click.argument("limit_id", metavar="ID", type=click.UUID)
@output.tenant_option
@click.option("--amount", type=int, metavar="N", help="What stands in place of the limit's own amount.")
@click.option("--until", "until_us", type=INSTANT, help="When it ends by itself, within 31 days.")
@click.option("--end", is_flag=True, help="End the boost now.")
@output.json_option
@click.pass_obj
def boost(
    context: Context,
    limit_id: UUID,
    tenant_slug: str,
    amount: int | None,
    until_us: int | None,
    end: bool,
    as_json: bool,
) -> None:
    """Let the limit of an ID, as listed, be larger for a while. What was used of it stays used."""
    if end == (amount is not None or until_us is not None) or (amount is None) != (until_us is None):
        raise InvalidInput("give --amount and --until, or --end", "amount")
    boosted = context.run(lambda services: services.limits.boost(tenant_slug, limit_id, amount, until_us))
    if as_json:
        output.document(_document(boosted))
        return
    output.line(f"{boosted.limit.sentence(boosted.owner)}: {_boost(boosted.limit) or 'no boost'}.")
    output.note("Every gateway follows within a second.")


@limits.command("list")
@click.option("--tenant", "tenant_slug", metavar="SLUG", help="Of this tenant; of all unless given.")
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, tenant_slug: str | None, rows_max: int, as_json: bool) -> None:
    """Show limits in force, oldest first, and what each does while Valkey is away (a shadow only counts)."""
    found = context.run(lambda services: services.limits.list(tenant_slug, rows_max + 1))
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    who = "No tenant" if tenant_slug is None else f"Nobody of tenant {tenant_slug}"
    output.listing(
        ("Allowed", "Tenant*", "Of", "Model*", "Policy", "Id"),
        found,
        _row,
        rows_max=rows_max,
        empty=f"{who} has a limit. Set one: {EXAMPLE.format(tenant_slug or 'SLUG')}",
    )


@limits.command("remove")
@click.argument("limit_id", metavar="ID", type=click.UUID)
@output.tenant_option
@output.json_option
@click.pass_obj
def remove(context: Context, limit_id: UUID, tenant_slug: str, as_json: bool) -> None:
    """Put the limit of an ID, as listed, out of force."""
    removed = context.run(lambda services: services.limits.archive(tenant_slug, limit_id))
    if as_json:
        output.document(_document(removed))
        return
    output.line(f"{removed.limit.sentence(removed.owner)}: no longer in force.")
    output.note("Every gateway follows within a second.")


def _one_of(given: dict[Meter, int | None]) -> tuple[Meter, int]:
    """The one kind of limit that was asked for; raises ``InvalidInput`` on none or several."""
    named = [(meter, amount) for meter, amount in given.items() if amount is not None]
    if len(named) != 1:
        raise InvalidInput(
            "a limit has one kind: give one of --requests, --tokens, --input-tokens, --output-tokens and --concurrency",
            "meter",
        )
    return named[0]


def _how(limit: Limit) -> str:
    """What a limit does in doubt, and its burst if it has one of its own."""
    burst = "" if limit.burst is None else f", bursts of {limit.burst:,}"
    if limit.is_strict:
        burst = ", strict"
    if limit.enforce is Enforce.SHADOW:
        return f"counts what it would have refused{burst}"
    return f"refuses, and is {limit.on_failure} while Valkey is away{burst}"


def _boost(limit: Limit) -> str | None:
    if limit.boost is None or limit.boost_until_us is None:
        return None
    return f"{limit.boost:,} until {output.timestamp(limit.boost_until_us)}"


def _row(named: NamedLimit) -> tuple[output.Cell, ...]:
    limit = named.limit
    boosted = _boost(limit)
    detail = boosted or (
        "strict" if limit.is_strict else None if limit.burst is None else f"bursts of {limit.burst:,}"
    )
    owner = "tenant" if limit.owned_by == "tenant" else named.owner
    return (
        limit.rate() if detail is None else (limit.rate(), detail),
        named.tenant,
        (owner, "each end user") if limit.per_end_user else owner,
        limit.model or "all",
        limit.on_failure if limit.is_enforced else limit.enforce,
        str(limit.id),
    )


def _document(named: NamedLimit) -> dict[str, object]:
    limit = named.limit
    return {
        "id": limit.id,
        "tenant": named.tenant,
        "scope": limit.scope,
        "project": named.project,
        "key": named.key_prefix,
        "model": limit.model,
        "meter": limit.meter,
        "amount": limit.amount,
        "window_s": limit.window_s,
        "burst": limit.burst,
        "strict": limit.is_strict,
        "boost": limit.boost,
        "boost_until": output.timestamp(limit.boost_until_us),
        "enforce": limit.enforce,
        "on_failure": limit.on_failure,
        "created_at": output.timestamp(limit.created_us),
    }
