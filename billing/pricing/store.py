"""Every statement on plans and subscriptions. Inserts answer whether the row was new, instead of raising."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, Select, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from billing.clock import from_datetime, to_datetime
from billing.infra.postgres import Connection
from billing.pricing.plan import Content, Plan, Version
from billing.pricing.subscription import Subscription
from billing.pricing.tables import price_plan, price_plan_version, subscription
from billing.pricing.term import Term

_encode = msgspec.json.Encoder(order="sorted").encode

# Invoices are of a noun above this one; whether one was computed with a subscription says whether it can be taken back.
_INVOICED = text(
    "SELECT EXISTS (SELECT FROM invoice WHERE tenant_id = :tenant_id AND inputs -> 'terms' @> cast(:term AS jsonb))"
)


async def insert_plan(connection: Connection, new: Plan) -> bool:
    """Whether the plan was added, without its versions; False when its name is taken."""
    statement = insert(price_plan).values(
        id=new.id, name=new.name, currency=new.currency, created_at=to_datetime(new.created_at_us)
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def insert_version(connection: Connection, plan_id: UUID, version: Version, at_us: int) -> None:
    """Add a numbered version; nothing ever updates one."""
    await connection.execute(
        insert(price_plan_version).values(
            plan_id=plan_id,
            number=version.number,
            effective_at=to_datetime(version.effective_us),
            content=msgspec.to_builtins(version.content),
            content_hash=hashlib.sha256(_encode(version.content)).digest(),
            created_at=to_datetime(at_us),
        )
    )


async def lock_plan(connection: Connection, name: str) -> None:
    """Let nobody else add versions to a plan until the transaction ends; a lock on its row would ask for UPDATE."""
    await _lock(connection, f"plan {name}")


async def plan_by_name(connection: Connection, name: str) -> Plan | None:
    """The plan of a name with all its versions."""
    found = await _plans_of(connection, select(price_plan).where(price_plan.c.name == name))
    return found[0] if found else None


async def plans(connection: Connection, rows_max: int, after: str = "") -> list[Plan]:
    """Plans by name with all their versions, at most ``rows_max`` plans, those after a name."""
    statement = select(price_plan).where(price_plan.c.name > after).order_by(price_plan.c.name)
    return await _plans_of(connection, statement.limit(rows_max))


async def lock_subscriptions(connection: Connection, tenant_id: UUID) -> None:
    """Let nobody else change a tenant's subscriptions until the transaction ends; its first has no row to lock."""
    await _lock(connection, f"subscription {tenant_id}")


async def _lock(connection: Connection, name: str) -> None:
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def insert_subscription(connection: Connection, new: Subscription) -> bool:
    """Whether the subscription was added; False when ``ex_subscription_overlap`` found another in its span."""
    statement = insert(subscription).values(
        tenant_id=new.tenant_id,
        id=new.id,
        plan_id=new.plan_id,
        starts_at=to_datetime(new.starts_us),
        ends_at=None if new.ends_us is None else to_datetime(new.ends_us),
        created_at=to_datetime(new.created_at_us),
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def end_subscription(
    connection: Connection, tenant_id: UUID, subscription_id: UUID, ends_us: int
) -> None:
    """Set the end of a subscription that had none; its own start takes it back."""
    of_id = (subscription.c.tenant_id == tenant_id, subscription.c.id == subscription_id)
    await connection.execute(update(subscription).where(*of_id).values(ends_at=to_datetime(ends_us)))


async def is_invoiced(connection: Connection, held: Subscription) -> bool:
    """Whether an invoice, a draft among them, was computed with a subscription."""
    term = msgspec.json.encode([{"starts_us": held.starts_us, "plan_id": str(held.plan_id)}]).decode()
    values = {"tenant_id": held.tenant_id, "term": term}
    return bool((await connection.execute(_INVOICED, values)).scalar_one())


async def subscriptions(connection: Connection, tenant_id: UUID) -> list[Subscription]:
    """A tenant's subscriptions by their start."""
    statement = (
        select(subscription, price_plan.c.name.label("plan"), price_plan.c.currency)
        .join_from(subscription, price_plan, subscription.c.plan_id == price_plan.c.id)
        .where(subscription.c.tenant_id == tenant_id)
        .order_by(subscription.c.starts_at, subscription.c.id)
    )
    return [_subscription_of(row) for row in await connection.execute(statement)]


async def terms(connection: Connection, tenant_id: UUID, start_us: int, end_us: int) -> list[Term]:
    """What prices a tenant's usage in ``[start_us, end_us)``: its plans with their spans, by start."""
    held = [
        entry
        for entry in await subscriptions(connection, tenant_id)
        if entry.starts_us < end_us
        and (entry.ends_us is None or start_us < entry.ends_us)
        and not entry.is_void
    ]
    ids = {entry.plan_id for entry in held}
    found = {
        plan.id: plan
        for plan in await _plans_of(connection, select(price_plan).where(price_plan.c.id.in_(ids)))
    }
    return [Term(entry.starts_us, entry.ends_us, found[entry.plan_id]) for entry in held]


async def _plans_of(connection: Connection, statement: Select[Any]) -> list[Plan]:
    """The plans that a statement selects, with their versions by instant: two statements for any number of plans."""
    rows = (await connection.execute(statement)).all()
    versions = price_plan_version
    of_plans = versions.c.plan_id.in_([row.id for row in rows])
    found = await connection.execute(select(versions).where(of_plans).order_by(versions.c.effective_at))
    return _assembled(rows, found)


def _assembled(rows: Sequence[Row[Any]], version_rows: Iterable[Row[Any]]) -> list[Plan]:
    by_plan: dict[UUID, list[Version]] = {row.id: [] for row in rows}
    for row in version_rows:
        content = msgspec.convert(row.content, Content)
        by_plan[row.plan_id].append(Version(from_datetime(row.effective_at), content, row.number))
    return [
        Plan(row.id, row.name, row.currency, from_datetime(row.created_at), tuple(by_plan[row.id]))
        for row in rows
    ]


def _subscription_of(row: Row[Any]) -> Subscription:
    return Subscription(
        id=row.id,
        tenant_id=row.tenant_id,
        plan_id=row.plan_id,
        plan=row.plan,
        currency=row.currency,
        starts_us=from_datetime(row.starts_at),
        ends_us=None if row.ends_at is None else from_datetime(row.ends_at),
        created_at_us=from_datetime(row.created_at),
    )
