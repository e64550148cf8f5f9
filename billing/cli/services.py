"""The services of one command on one database, wired to this machine's clock and randomness."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from billing.errors import Misconfigured, Unavailable
from billing.fleet.service import FleetService
from billing.infra.postgres import Database, sqlalchemy_url
from billing.infra.system import new_id, now_us, random_bytes
from billing.invoicing.service import InvoicingService
from billing.pricing.service import PricingService
from billing.tenants.service import TenantService

Result = TypeVar("Result")

ROLE = "control"
POOL_SIZE = 1
_NOT_MIGRATED = {"42P01", "42703", "22023"}
"""SQLSTATEs of a missing table, a missing column, a missing role: the schema is not the one of this program."""
_NOT_ALLOWED = "42501"


class Services:
    """What commands work with."""

    def __init__(self, database: Database) -> None:
        self.tenants = TenantService(database, now_us, new_id, random_bytes)
        self.fleet = FleetService(database, now_us, new_id)
        self.pricing = PricingService(database, now_us, new_id)
        self.invoicing = InvoicingService(database, now_us)


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
    try:
        make_url(sqlalchemy_url(url))
    except (ArgumentError, ValueError):
        # Without the cause: it may repeat the password.
        raise Misconfigured(
            "DATABASE_URL is not an address; write postgresql://user:password@host:5432/billing"
        ) from None
    try:
        yield
    except OSError as fault:
        raise Unavailable(f"Postgres cannot be reached: {fault}") from fault
    except (DBAPIError, Unavailable) as fault:
        state = _sqlstate(fault)
        if state in _NOT_MIGRATED:
            raise Misconfigured(
                "the database is not migrated to this program's schema: run `billing migrate`"
            ) from fault
        if state == _NOT_ALLOWED:
            raise Misconfigured(
                f"the database does not let this user work as {ROLE}: run `billing migrate` as its owner"
            ) from fault
        raise


def _sqlstate(fault: BaseException | None) -> str | None:
    """What Postgres itself said, below the errors that were made of it; None when it said nothing."""
    while fault is not None:
        state = getattr(fault, "sqlstate", None)
        if state is not None:
            return str(state)
        fault = getattr(fault, "orig", None) or fault.__cause__
    return None


async def _run(url: str, work: Callable[[Services], Awaitable[Result]]) -> Result:
    database = Database(url, role=ROLE, pool_size=POOL_SIZE)
    try:
        return await work(Services(database))
    finally:
        await database.close()
