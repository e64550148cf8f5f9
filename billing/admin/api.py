"""The admin API as a router: its controllers behind one guard."""

from typing import Any

from litestar import Request, Router
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from billing.admin.audit import AuditController
from billing.admin.backends import BackendController
from billing.admin.documentation import SCHEME
from billing.admin.invoices import InvoiceController
from billing.admin.keys import KeyController
from billing.admin.limits import LimitController
from billing.admin.models import ModelController
from billing.admin.operator import token_guard
from billing.admin.plans import PlanController
from billing.admin.projects import ProjectController
from billing.admin.services import ServicesOf
from billing.admin.subscriptions import SubscriptionController
from billing.admin.tenants import TenantController
from billing.admin.usage import UsageController
from billing.errors import InvalidInput

PATH = "/api/v1"
CONTROLLERS: tuple[ControllerRouterHandler, ...] = (
    TenantController,
    ProjectController,
    KeyController,
    PlanController,
    SubscriptionController,
    ModelController,
    BackendController,
    LimitController,
    UsageController,
    InvoiceController,
    AuditController,
)
_NUL_IN_JSON = b"\\u0000"


async def refuse_nul(request: Request[Any, Any, Any]) -> None:
    """Refuse the character NUL, which no name holds and no Postgres text can."""
    parts = (request.url.path.encode(), request.scope["query_string"], await request.body())
    if b"\0" in b"".join(parts) or b"%00" in request.scope["query_string"] or _NUL_IN_JSON in parts[2]:
        raise InvalidInput("the request holds the character NUL, which nothing here can")


def admin_router(services_of: ServicesOf, token_hash: str | None) -> Router:
    """Everything below ``/api/v1`` that operators may do."""
    return Router(
        PATH,
        route_handlers=list(CONTROLLERS),
        guards=[token_guard(token_hash)],
        dependencies={"services": Provide(services_of, sync_to_thread=False)},
        before_request=refuse_nul,
        security=[{SCHEME: []}],
    )
