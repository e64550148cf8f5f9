"""What the admin API works with: the services of every noun, on one database, for one actor."""

from collections.abc import Callable
from typing import Any

from litestar import Request
from litestar.di import NamedDependency

from billing.access.service import AuditService
from billing.admin.operator import Operator
from billing.clock import Clock
from billing.fleet.service import FleetService
from billing.ids import NewId
from billing.infra.postgres import Database
from billing.infra.zones import zone_of
from billing.invoicing.service import InvoicingService
from billing.limits.service import LimitService
from billing.metering.external.service import EventService
from billing.metering.service import UsageService
from billing.pricing.service import PricingService
from billing.tenants.service import RandomBytes, TenantService


class AdminServices:
    """Services whose writes the audit log names after one actor."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId, random_bytes: RandomBytes) -> None:
        self.clock = clock
        self.audit = AuditService(database)
        self.tenants = TenantService(database, clock, new_id, random_bytes)
        self.fleet = FleetService(database, clock, new_id)
        self.pricing = PricingService(database, clock, new_id)
        self.usage = UsageService(database)
        self.events = EventService(database, clock)
        self.limits = LimitService(database, clock, new_id)
        self.invoicing = InvoicingService(database, clock, new_id, zone_of)

    def __repr__(self) -> str:
        return f"<AdminServices {self.tenants!r}>"


Services = NamedDependency[AdminServices]
"""How a handler asks for them."""
ServicesOf = Callable[[Request[Operator, Any, Any]], AdminServices]


def services_provider(
    database: Database, clock: Clock, new_id: NewId, random_bytes: RandomBytes
) -> ServicesOf:
    """What makes the services of a request's operator. A function, because Litestar copies objects deeply."""

    def provide(request: Request[Operator, Any, Any]) -> AdminServices:
        return AdminServices(database.acting_as(request.user.actor), clock, new_id, random_bytes)

    return provide
