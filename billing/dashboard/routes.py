"""The pages as handlers of the control process: signing in, the first page, and a page of each request and invoice."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from litestar import MediaType, Response, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException
from litestar.params import Body, FromPath, FromQuery
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER
from litestar.types import ControllerRouterHandler

from billing.dashboard import session
from billing.dashboard.access import Access, AnyRequest, Refusal
from billing.dashboard.pages import Pages
from billing.dashboard.render import Renderer
from billing.errors import BillingError, Forbidden, NotFound
from billing.exports.invoice_csv import invoice_csv
from billing.exports.invoice_json import invoice_json

_log = logging.getLogger(__name__)

FORM_BYTES_MAX = 4_096
NUL = "\0"
"""No text of Postgres can hold it: asking for it there would fail."""
STATIC_AGE_S = 31_536_000

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With "no-referrer" a browser would send the form that signs in with the origin "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_STATUSES = {
    "invalid_input": HTTPStatus.BAD_REQUEST,
    "not_found": HTTPStatus.NOT_FOUND,
    "forbidden": HTTPStatus.FORBIDDEN,
    "conflict": HTTPStatus.CONFLICT,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}
_TEXTS = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service failed; what happened stands in its log.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "What was sent is too large.",
}
_NOT_OF_A_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]")
_CLOSED = "Set BILLING_ADMIN_TOKEN, or run: billing admin-token --new. Then start this server again."
_OPEN = "It was shown when it was made: by billing up in the terminal, or by billing admin-token --new."


class Site:
    """What handlers are given: pages, who may see them, and how they are made into HTML."""

    def __init__(self, pages: Pages, access: Access, renderer: Renderer, gateway_url: str) -> None:
        self.pages = pages
        self.access = access
        self.renderer = renderer
        self.gateway_url = gateway_url

    def __repr__(self) -> str:
        return f"<Site {self.access!r} {self.pages!r}>"

    def html(self, template: str, status: int = HTTPStatus.OK, **values: Any) -> Response[bytes]:
        """A page as a reply."""
        content = self.renderer.html(template, **values)
        return Response(content, status_code=status, media_type=MediaType.HTML, headers=dict(HEADERS))

    def sign_in(self, place: str, status: int = HTTPStatus.OK, fault: str = "") -> Response[bytes]:
        """The page that asks for the admin token."""
        is_open = self.access.token_hash is not None
        hint = _OPEN if is_open else _CLOSED
        return self.html("login", status, is_open=is_open, hint=hint, place=place, fault=fault)


SiteGiven = NamedDependency[Site]


def dashboard_handlers(
    pages: Pages, access: Access, gateway_url: str, renderer: Renderer | None = None
) -> list[ControllerRouterHandler]:
    """Handlers to join to the application of the control process.

    ``gateway_url`` is where requests are sent (``http://127.0.0.1:8090``); the empty page says so.
    """
    site = Site(pages, access, renderer or Renderer(), gateway_url)

    # Functions, because Litestar copies other objects deeply for each handler.
    def provide() -> Site:
        return site

    async def require(request: AnyRequest) -> Response[Any] | None:
        refused = await access.require(request)
        if refused is None and NUL in request.url.path:
            raise NotFound("the address holds the character NUL, which no id and no number does")
        return refused

    def refuse(_request: AnyRequest, fault: Exception) -> Response[bytes]:
        return _problem_page(site, fault)

    def fail(request: AnyRequest, fault: Exception) -> Response[bytes]:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=fault)
        return _problem_page(site, HTTPException(status_code=HTTPStatus.INTERNAL_SERVER_ERROR))

    shared: dict[str, Any] = {
        "dependencies": {"site": Provide(provide, sync_to_thread=False)},
        "exception_handlers": {BillingError: refuse, HTTPException: refuse, Exception: fail},
        "include_in_schema": False,
    }
    return [
        Router(
            "/",
            route_handlers=[home, request_page, invoice_page, invoice_as_json, invoice_as_csv],
            before_request=require,
            **shared,
        ),
        Router("/", route_handlers=[login_page, login, logout, static_file], **shared),
    ]


@get("/")
async def home(site: SiteGiven) -> Response[bytes]:
    """Requests, engines, invoices."""
    return site.html("home", home=await site.pages.home(), gateway_url=site.gateway_url)


@get("/requests/{usage_id:str}")
async def request_page(site: SiteGiven, usage_id: FromPath[str]) -> Response[bytes]:
    """One request from its key to its cost."""
    return site.html("request", page=await site.pages.trace(usage_id))


@get("/invoices/{number:str}")
async def invoice_page(site: SiteGiven, number: FromPath[str]) -> Response[bytes]:
    """One issued invoice, fit to be printed."""
    return site.html("invoice", page=await site.pages.invoice(number))


@get("/invoices/{number:str}/json")
async def invoice_as_json(site: SiteGiven, number: FromPath[str]) -> Response[bytes]:
    """The same invoice for machines."""
    document = await site.pages.invoice_document(number)
    return _file(invoice_json(document), "application/json", f"{document.number}.json")


@get("/invoices/{number:str}/csv")
async def invoice_as_csv(site: SiteGiven, number: FromPath[str]) -> Response[bytes]:
    """The same invoice for spreadsheets."""
    document = await site.pages.invoice_document(number)
    return _file(invoice_csv(document).encode(), "text/csv; charset=utf-8", f"{document.number}.csv")


@get("/login")
async def login_page(request: AnyRequest, site: SiteGiven, place: FromQuery[str] = "/") -> Response[Any]:
    """Asks for the admin token."""
    wanted = session.place_of(place)
    if site.access.is_signed_in(request):
        return _go(wanted)
    return site.sign_in(wanted)


Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]


@post("/login", request_max_body_size=FORM_BYTES_MAX)
async def login(request: AnyRequest, site: SiteGiven, data: Form) -> Response[Any]:
    """Signs a browser in that gives the admin token."""
    _check_own(request)
    place = session.place_of(data.get("place"))
    if site.access.token_hash is None:
        return site.sign_in(place, HTTPStatus.SERVICE_UNAVAILABLE)
    refusal = await site.access.refusal_of(data.get("token", ""), request)
    if refusal is not None:
        return _refused(site, place, refusal)
    reply = _go(place)
    reply.set_cookie(site.access.cookie(request))
    return reply


@post("/logout", request_max_body_size=FORM_BYTES_MAX)
async def logout(request: AnyRequest, site: SiteGiven) -> Response[Any]:
    """Makes the browser forget that it was signed in."""
    _check_own(request)
    reply = _go("/login")
    reply.set_cookie(site.access.no_cookie(request))
    return reply


@get("/static/{name:str}", cache_control=None)
async def static_file(site: SiteGiven, name: FromPath[str]) -> Response[bytes]:
    """Style, script and icon; their address changes with their content."""
    found = site.renderer.static_files.get(name)
    if found is None:
        raise NotFound(f"there is no file {name[:80]!r} here")
    headers = {**HEADERS, "cache-control": f"public, max-age={STATIC_AGE_S}, immutable"}
    return Response(found.content, media_type=found.media_type, headers=headers)


def _file(content: bytes, media_type: str, name: str) -> Response[bytes]:
    safe_name = _NOT_OF_A_FILE_NAME.sub("_", name)
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{safe_name}"'}
    return Response(content, media_type=media_type, headers=headers)


def _go(place: str) -> Response[Any]:
    return Redirect(place, status_code=HTTP_303_SEE_OTHER, headers=dict(HEADERS))


def _check_own(request: AnyRequest) -> None:
    headers = request.headers
    if not session.is_own(headers.get("origin"), headers.get("sec-fetch-site"), headers.get("host")):
        raise Forbidden(
            "the form did not come from a page of this server; open the page itself and try again"
        )


def _refused(site: Site, place: str, refusal: Refusal) -> Response[bytes]:
    if not refusal.wait_s:
        return site.sign_in(place, HTTPStatus.UNAUTHORIZED, refusal.text)
    reply = site.sign_in(place, HTTPStatus.TOO_MANY_REQUESTS, refusal.text)
    reply.set_header("retry-after", str(refusal.wait_s))
    return reply


def _problem_page(site: Site, fault: Exception) -> Response[bytes]:
    if isinstance(fault, BillingError):
        status = _STATUSES.get(fault.kind, HTTPStatus.INTERNAL_SERVER_ERROR)
        return site.html("problem", status, title=status.phrase, text=f"{fault}.".replace("..", "."))
    status = HTTPStatus(getattr(fault, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR))
    return site.html(
        "problem",
        status,
        title=status.phrase,
        text=_TEXTS.get(status, "The server could not take this request."),
    )
