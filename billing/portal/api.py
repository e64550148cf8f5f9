"""The portal as a router: what a tenant's programs may ask, behind one guard."""

from litestar import Router

from billing.portal.caller import key_guard
from billing.portal.estimate import estimate_handlers
from billing.portal.limits import limit_handlers
from billing.portal.services import Portal
from billing.portal.usage import usage_handlers

PATH = "/v1"


def portal_router(portal: Portal) -> Router:
    """Everything below ``/v1`` that a tenant's key opens."""
    return Router(
        PATH,
        route_handlers=[*usage_handlers(portal), *limit_handlers(portal), *estimate_handlers(portal)],
        guards=[key_guard(portal.directory, portal.clock)],
    )
