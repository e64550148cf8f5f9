"""The admin API as a router: its controllers behind one guard."""

from litestar import Router
from litestar.di import Provide
from litestar.enums import HttpMethod
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler

from billing.admin.audit import AuditController
from billing.admin.backends import BackendController
from billing.admin.documentation import SCHEME
from billing.admin.invoice_checks import InvoiceCheckController
from billing.admin.invoices import InvoiceController
from billing.admin.keys import KeyController
from billing.admin.limits import LimitController
from billing.admin.models import ModelController
from billing.admin.operator import token_guard
from billing.admin.plans import PlanController
from billing.admin.projects import ProjectController
from billing.admin.readable import refuse_unreadable
from billing.admin.services import ServicesOf
from billing.admin.subscriptions import SubscriptionController
from billing.admin.tenants import TenantController
from billing.admin.usage import UsageController

PATH = "/api/v1"
CONTROLLERS: tuple[ControllerRouterHandler, ...] = (
    TenantController,
    ProjectController,
    KeyController,
    PlanController,
    SubscriptionController,
    BackendController,
    ModelController,
    LimitController,
    UsageController,
    InvoiceController,
    InvoiceCheckController,
    AuditController,
)


def admin_router(services_of: ServicesOf, token_hash: str | None) -> Router:
    """Everything below ``/api/v1`` that operators may do."""
    router = Router(
        PATH,
        route_handlers=list(CONTROLLERS),
        guards=[token_guard(token_hash)],
        dependencies={"services": Provide(services_of, sync_to_thread=False)},
        before_request=refuse_unreadable,
        security=[{SCHEME: []}],
    )
    _say_all_methods(router)
    return router


def _say_all_methods(router: Router) -> None:
    """Have ``OPTIONS`` name every method of a path: the framework's own answer knows that of the first handler only."""
    for place, route in enumerate(router.routes):
        if isinstance(route, HTTPRoute):
            own = [each for each in route.route_handlers if each.http_methods != {HttpMethod.OPTIONS}]
            router.routes[place] = HTTPRoute(path=route.path, route_handlers=own)
