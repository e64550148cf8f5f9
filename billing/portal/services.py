"""What the portal works with, each for one caller."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from billing.clock import Clock
from billing.directory.caller import Caller, Model
from billing.infra.postgres import Database
from billing.infra.zones import zone_of
from billing.invoicing.service import InvoicingService
from billing.limits.bucket import Verdict
from billing.limits.limit import Limit
from billing.metering.service import UsageService
from billing.pricing.term import Term


class Directory(Protocol):
    """What is asked of the directory, in memory."""

    def caller(self, authorization: bytes | None, now_us: int) -> Caller:
        """Who a header stands for; raises ``Unauthenticated``, ``Forbidden`` or ``Unavailable``."""

    def model(self, name: str) -> Model:
        """The model of a name or alias; raises ``NotFound``."""

    def limits_of(self, caller: Caller) -> tuple[Limit, ...]:
        """Every limit that may count a caller's requests, whatever the model."""

    def terms(self, tenant_id: UUID) -> tuple[Term, ...]:
        """What prices a tenant's usage."""


class Looks(Protocol):
    """What is left of limits now; takes nothing of them."""

    async def look(self, tenant_id: UUID, limits: Sequence[Limit]) -> list[Verdict]:
        """One verdict for each limit; raises ``Unavailable``."""


class Portal:
    """Everything that callers may ask, over collaborators that are arguments."""

    def __init__(self, database: Database, directory: Directory, looks: Looks | None, clock: Clock) -> None:
        self._database = database
        self.directory = directory
        self.looks = looks
        self.clock = clock

    def __repr__(self) -> str:
        return f"<Portal {self._database!r}>"

    def usage(self, caller: Caller) -> UsageService:
        """Records of the caller's tenant, and of no other."""
        return UsageService(self._database.for_tenant(caller.tenant_id))

    def invoicing(self, caller: Caller) -> InvoicingService:
        """Months of the caller's tenant, and of no other; it only reads."""

        def no_id() -> UUID:
            raise AssertionError("the portal makes nothing")

        return InvoicingService(self._database.for_tenant(caller.tenant_id), self.clock, no_id, zone_of)
