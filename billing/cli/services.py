"""The services of one command on one database, wired to this machine's clock and randomness."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError

from billing.access.service import AuditService
from billing.errors import Misconfigured, Unavailable
from billing.fleet.service import FleetService
from billing.infra.postgres import ROLES, Database
from billing.infra.postgres_url import address_of
from billing.infra.system import new_id, now_us, random_bytes, user_name
from billing.infra.zones import zone_of
from billing.invoicing.service import InvoicingService
from billing.limits.service import LimitService
from billing.metering.external.service import EventService
from billing.metering.service import UsageService
from billing.pricing.service import PricingService
from billing.tenants.service import TenantService

Result = TypeVar("Result")

ROLE = "control"
POOL_SIZE = 1
_NOT_MIGRATED = {"42P01", "42703", "22023"}
"""SQLSTATEs of a missing table, a missing column, a missing role: the schema is not the one of this program."""
_NOT_ALLOWED = "42501"
_MAKING_ROLES = "CreateRole"
_CHECKING_RIGHTS = "aclcheck_error"
"""Functions of Postgres that refuse: they have one name in every language, which their message has not."""
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


class Services:
    """What commands work with."""

    def __init__(self, database: Database) -> None:
        self.tenants = TenantService(database, now_us, new_id, random_bytes)
        self.fleet = FleetService(database, now_us, new_id)
        self.pricing = PricingService(database, now_us, new_id)
        self.limits = LimitService(database, now_us, new_id)
        self.usage = UsageService(database)
        self.events = EventService(database, now_us)
        self.audit = AuditService(database)
        self.invoicing = InvoicingService(database, now_us, new_id, zone_of)


def run(url: str, work: Callable[[Services], Awaitable[Result]]) -> Result:
    """Do the work in an event loop of its own and close the database.

    Raises ``Misconfigured`` when the database is not ready for this program; what it refuses for another reason is a
    defect and raised as it came.
    """
    with explained(url):
        return asyncio.run(_run(url, work))


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what a database refuses into what to do about it; raises ``Misconfigured`` or ``Unavailable``."""
    user = address_of(url).url.username
    try:
        yield
    except OSError as fault:
        raise Unavailable(f"Postgres cannot be reached: {fault}") from fault
    except (DBAPIError, asyncpg.PostgresError, Unavailable) as fault:
        refusal = _refusal(fault)
        state = getattr(refusal, "sqlstate", None)
        if state in _NOT_MIGRATED:
            raise Misconfigured(
                "the database is not migrated to this program's schema: run `billing migrate`"
            ) from fault
        if refusal is not None and state == _NOT_ALLOWED:
            raise Misconfigured(_what_to_grant(refusal, user)) from fault
        raise


def _what_to_grant(refusal: BaseException, user: str | None) -> str:
    """What has to be done for the user of the address, as far as possible in words that can be run."""
    name = "<user>" if user is None else _identifier(user)
    refused_by = getattr(refusal, "server_source_function", None)
    if refused_by == _CHECKING_RIGHTS:
        return f"{refusal}: run `billing migrate` as the owner of the database"
    grant = f"GRANT {', '.join(ROLES)} TO {name}"
    if refused_by == _MAKING_ROLES:
        grant = "; ".join([*(f"CREATE ROLE {role}" for role in ROLES), grant])
    return f"the database does not let {name} work as {', '.join(ROLES)}: as a superuser run `{grant}`"


def _identifier(name: str) -> str:
    """A name as SQL writes it."""
    return name if _PLAIN_NAME.fullmatch(name) else '"{}"'.format(name.replace('"', '""'))


def _refusal(fault: BaseException | None) -> BaseException | None:
    """What Postgres itself said, below the errors that were made of it; None when it said nothing."""
    while fault is not None and not isinstance(fault, asyncpg.PostgresError):
        fault = getattr(fault, "orig", None) or fault.__cause__
    return fault


async def _run(url: str, work: Callable[[Services], Awaitable[Result]]) -> Result:
    database = Database(url, role=ROLE, pool_size=POOL_SIZE)
    try:
        return await work(Services(database.acting_as(f"cli:{user_name()}")))
    finally:
        await database.close()
