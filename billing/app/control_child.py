"""The control process: the admin API, its documentation, health and metrics, as a Litestar application under uvicorn."""

import argparse
import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import cast

import uvicorn
import uvloop
from litestar import Litestar, Response, Router, get
from litestar.types import ControllerRouterHandler

from billing.admin.api import admin_router
from billing.admin.documentation import asset, openapi_config, openapi_document
from billing.admin.events import events_router
from billing.admin.faults import Faults
from billing.admin.headers import secure
from billing.admin.operator import token_guard
from billing.admin.services import services_provider
from billing.app.stopping import obey
from billing.app.supervisor import StopSignal, read_settings
from billing.dashboard.access import Access
from billing.dashboard.caller import trusted_networks
from billing.dashboard.gate import Gate
from billing.dashboard.limit_view import Decisions
from billing.dashboard.pages import Pages
from billing.dashboard.routes import dashboard_handlers
from billing.dashboard.watch import EngineWatch
from billing.directory.service import DirectoryService
from billing.errors import BillingError, Misconfigured
from billing.fleet.service import FleetService
from billing.gateway.protocol import limited_protocol
from billing.infra import log, migrate, telemetry
from billing.infra.postgres import Database
from billing.infra.system import monotonic_us, new_id, now_us, random_bytes
from billing.infra.valkey import Valkey
from billing.infra.zones import zone_of
from billing.invoicing.recent.service import RecentService
from billing.invoicing.service import InvoicingService
from billing.limits.cache import LimitCache
from billing.metering.service import UsageService
from billing.portal.api import portal_router
from billing.portal.services import Portal
from billing.settings import Settings

_log = logging.getLogger(__name__)

CONNECTIONS_MAX = 512
HEADER_BYTES_MAX = 32 * 1024
HEAD_TIMEOUT_S = 15.0
KEEP_ALIVE_S = 30
DRAIN_ON_STOP_S = 5
READINESS_POOL_SIZE = 1
PORTAL_POOL_SIZE = 5
LOOK_TIMEOUT_S = 1.0
DIRECTORY_NAME = "control-directory.json"


def application(
    database: Database,
    owner: Database,
    settings: Settings,
    watch: EngineWatch | None = None,
    portal: Portal | None = None,
) -> Litestar:
    """The application of the control process.

    ``database`` works under the role ``control``; ``owner`` as the address's own user, who may read the schema's
    revision; ``watch``, running, looks at the engines' counters for the page; ``portal`` answers tenants' own programs.
    """
    services_of = services_provider(database, now_us, new_id, random_bytes)
    routers: list[ControllerRouterHandler] = [
        admin_router(services_of, settings.admin_token_hash),
        events_router(services_of, settings.admin_token_hash),
        openapi_document,
        asset,
        healthz,
        _readiness(owner),
        _metrics(settings),
        *_pages(database, settings, watch or _watch(database)),
        *([portal_router(portal)] if portal is not None else []),
    ]
    return Litestar(
        route_handlers=routers,
        exception_handlers=Faults(new_id).handlers,
        before_send=[secure],
        openapi_config=openapi_config(version("gpu-billing")),
        request_max_body_size=settings.control.request_body_bytes_max,
        logging_config=None,
    )


def _watch(database: Database) -> EngineWatch:
    return EngineWatch(FleetService(database, now_us, new_id), UsageService(database), now_us)


def _pages(database: Database, settings: Settings, watch: EngineWatch) -> list[ControllerRouterHandler]:
    """The pages, which have a guard of their own: a browser shows a cookie where a program sends the token."""
    pages = Pages(
        UsageService(database),
        RecentService(database, zone_of, now_us),
        InvoicingService(database, now_us, new_id, zone_of),
        watch,
        now_us,
        lambda: cast(
            "Decisions",
            telemetry.sums(
                settings.metrics_dir, telemetry.LIMIT_DECISIONS_NAME, telemetry.LIMIT_DECISIONS_LABELS
            ),
        ),
    )
    trusted = trusted_networks(settings.control.trusted_proxies)
    access = Access(
        settings.admin_token_hash, int(settings.control.session_s), now_us, Gate(monotonic_us), trusted
    )
    return dashboard_handlers(pages, access, settings.gateway.url)


@get("/healthz", include_in_schema=False, sync_to_thread=False)
def healthz() -> dict[str, str]:
    """This process runs."""
    return {"status": "ok"}


def _readiness(owner: Database) -> ControllerRouterHandler:
    wanted = migrate.head()

    @get("/readyz", include_in_schema=False)
    async def readyz() -> Response[dict[str, str | None]]:
        """This process may be sent requests: Postgres answers and has the schema of this program."""
        try:
            async with owner.transaction() as connection:
                found = await migrate.revision_of(connection)
        except BillingError as fault:
            # Anybody may ask here: addresses and reasons are for the log.
            _log.warning("not ready: %s", fault)
            return Response({"status": "Postgres does not answer"}, status_code=503)
        status = "ready" if found == wanted else "the database has another schema: run `billing migrate`"
        return Response(
            {"status": status, "schema": found, "schema_wanted": wanted},
            status_code=200 if found == wanted else 503,
        )

    return readyz


def _metrics(settings: Settings) -> Router:
    @get("/metrics", include_in_schema=False, media_type=telemetry.CONTENT_TYPE, sync_to_thread=True)
    def metrics() -> bytes:
        """The metrics of every process of this machine."""
        return telemetry.exposition(settings.metrics_dir)

    return Router("/", route_handlers=[metrics], guards=[token_guard(settings.admin_token_hash)])


async def serve(settings: Settings, listener: socket.socket, stop: StopSignal) -> None:
    """Serve until SIGTERM."""
    if settings.database_url is None:
        raise Misconfigured("the control process needs DATABASE_URL")
    database = Database(settings.database_url, role="control")
    owner = Database(settings.database_url, pool_size=READINESS_POOL_SIZE)
    tenants = Database(settings.database_url, role="portal", pool_size=PORTAL_POOL_SIZE)
    telemetry.UP.labels("control").set(1)
    watch = _watch(database)
    try:
        async with _portal(database, tenants, settings) as portal, watch.running():
            server = _server(application(database, owner, settings, watch, portal))
            obeying = asyncio.create_task(obey(stop, server))
            await server.serve(sockets=[listener])
            obeying.cancel()
    finally:
        await tenants.close()
        await owner.close()
        await database.close()
        _log.info("control ended")


@contextlib.asynccontextmanager
async def _portal(database: Database, tenants: Database, settings: Settings) -> AsyncIterator[Portal]:
    """The portal with its directory, which follows as a gateway's does, and Valkey where there is one."""
    directory = DirectoryService(
        database,
        settings.data_dir / DIRECTORY_NAME,
        now_us,
        monotonic_us,
        poll_interval_s=settings.gateway.directory_poll_interval_s,
        stale_max_s=settings.gateway.directory_stale_max_s,
    )
    await directory.load()
    following = asyncio.create_task(directory.follow())
    valkey = None
    if settings.redis_url is not None:
        limits = settings.limits
        valkey = Valkey(settings.redis_url, timeout_s=LOOK_TIMEOUT_S, queue_max=limits.queue_max)
    looks = None if valkey is None else LimitCache(valkey)
    try:
        if valkey is not None:
            await valkey.connect()
        yield Portal(tenants, directory, looks, now_us)
    finally:
        following.cancel()
        if valkey is not None:
            await valkey.close()


def _server(app: Litestar) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=limited_protocol(HEADER_BYTES_MAX, HEAD_TIMEOUT_S),
        limit_concurrency=CONNECTIONS_MAX,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whose word is taken is decided in billing.dashboard.caller
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_ON_STOP_S,
    )
    return uvicorn.Server(config)


def main() -> None:
    """Entry of the process: settings and the listening socket come as file descriptors."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--settings-fd", type=int, required=True)
    arguments.add_argument("--socket-fd", type=int, required=True)
    given = arguments.parse_args()
    log.set_up()
    settings = read_settings(given.settings_fd)
    stop = StopSignal()
    with socket.socket(fileno=given.socket_fd) as listener:
        listener.setblocking(False)
        uvloop.run(serve(settings, listener, stop))


if __name__ == "__main__":
    main()
