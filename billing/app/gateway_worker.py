"""One gateway worker: the proxy with its real collaborators, as a Litestar application under uvicorn."""

import argparse
import asyncio
import gc
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvicorn
import uvloop
from litestar import Litestar, MediaType, Request, Response, asgi, get
from litestar.exceptions import HTTPException

from billing.app.stopping import obey
from billing.app.supervisor import StopSignal, read_settings
from billing.app.worker_metrics import Closes, CountedSpool, worker_flushers
from billing.directory.service import DirectoryService
from billing.errors import BillingError, InvalidInput, Misconfigured, NotFound, Unavailable
from billing.gateway.mount import ProxyMount
from billing.gateway.problem import problem
from billing.gateway.protocol import limited_protocol
from billing.gateway.proxy import Proxy
from billing.gateway.tokenizer import Tokenizers
from billing.gateway.upstream import UpstreamPool
from billing.infra import log, telemetry
from billing.infra.postgres import Database
from billing.infra.system import monotonic_us, new_id, now_us
from billing.infra.tokenizers import LocalTokenizers
from billing.infra.valkey import Valkey
from billing.limits.admission import CHECK_INTERVAL_S, Admission
from billing.limits.cache import LimitCache
from billing.metering.spool import Spool
from billing.settings import GatewaySettings, Settings

_log = logging.getLogger(__name__)

SNAPSHOT_NAME = "directory.json"
GARBAGE_THRESHOLDS = (50_000, 10, 10)
"""What a request makes is freed by reference counts; with Python's own thresholds, looking for cycles among everything
that was imported took a tenth of a request's time."""
STOPPING_MAX_S = 5.0
FAULT_LOG_INTERVAL_S = 1.0
KEEP_ALIVE_S = 75
"""How long a client's idle connection is kept; above what official clients and proxies keep theirs."""


class FaultLog:
    """Tells the operator in the log what callers are not told: addresses, folders, reasons. One line a second and kind."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._told_s: dict[str, float] = {}
        self._untold: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<FaultLog untold={dict(self._untold)}>"

    def __call__(self, fault: BillingError) -> None:
        """Log a fault of our own or of an engine; a caller's own mistakes are not logged."""
        if not isinstance(fault, Unavailable | Misconfigured):
            return
        now_s = self._monotonic()
        if now_s - self._told_s.get(fault.kind, -FAULT_LOG_INTERVAL_S) < FAULT_LOG_INTERVAL_S:
            self._untold[fault.kind] += 1
            return
        self._told_s[fault.kind] = now_s
        _log.warning(
            "%s: %s (%d more since the last line)", fault.kind, fault, self._untold.pop(fault.kind, 0)
        )


def application(mount: ProxyMount, directory: DirectoryService, admission: Admission) -> Litestar:
    """The worker's application: the proxied paths raw, health beside them."""

    @get("/healthz", sync_to_thread=False, include_in_schema=False)
    def healthz() -> dict[str, Any]:
        """This process runs."""
        return {"status": "ok", "worker": os.getpid()}

    @get("/readyz", sync_to_thread=False, include_in_schema=False)
    def readyz() -> Response[dict[str, Any]]:
        """This process may be sent requests: it knows its callers, and its clock can be trusted with their limits."""
        status = "ready"
        if directory.stale():
            status = "directory is stale"
        elif not admission.ready:
            status = f"this host's clock is off by {admission.clock_difference_us / 1_000_000:.1f} s"
        ready = status == "ready"
        content = {
            "status": status,
            "worker": os.getpid(),
            "directory_version": directory.snapshot.version,
            "active": mount.active,
        }
        return Response(content, status_code=200 if ready else 503)

    return Litestar(
        route_handlers=[asgi("/", is_mount=True, copy_scope=False)(mount.__call__), healthz, readyz],
        exception_handlers={HTTPException: _in_dialect},
        openapi_config=None,
        logging_config=None,
    )


def _in_dialect(request: Request[Any, Any, Any], fault: HTTPException) -> Response[bytes]:
    """Litestar's own errors (unknown path, wrong method) in the envelope that callers of this port read."""
    unknown = fault.status_code == 404  # noqa: PLR2004 - HTTP
    sentence = (
        f"Unknown request URL: {request.method} {request.url.path}. Model requests are served under /v1."
    )
    answer = problem(NotFound(sentence) if unknown else InvalidInput(fault.detail))
    return Response(answer.body, status_code=fault.status_code, media_type=MediaType.JSON)


async def serve(settings: Settings, listener: socket.socket, stop: StopSignal) -> None:
    """Serve until SIGTERM; then finish what is open, within ``drain_on_stop_s``, and leave the spool whole."""
    gateway = settings.gateway
    if settings.database_url is None:
        raise Misconfigured("a gateway worker needs DATABASE_URL")
    settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database_url, role="gateway", pool_size=1)
    directory = _directory(database, settings)
    await directory.load()
    valkey, admission = _limits(settings)
    await valkey.connect()
    await admission.renew()
    upstream = _upstream(gateway)
    vocabularies = LocalTokenizers()
    spool = Spool.create(settings.spool_dir, new_id(), settings.spool)
    closes = Closes(directory.backend_name)
    proxy = Proxy(
        directory=directory,
        upstream=upstream,
        spool=CountedSpool(spool, closes),
        admission=admission,
        tokenizer=Tokenizers(upstream, vocabularies, timeout_s=gateway.tokenize_timeout_s),
        clock=now_us,
        settings=gateway,
        output_bound_tokens=settings.limits.output_bound_tokens,
        report=FaultLog(time.monotonic),
    )
    mount = ProxyMount(proxy, clock=now_us, new_id=new_id, settings=gateway)
    telemetry.UP.labels("gateway").set(1)
    beside = [
        asyncio.create_task(directory.follow()),
        asyncio.create_task(_keep_limits(admission)),
        asyncio.create_task(telemetry.keep_flushing(_flushers(proxy, admission, directory, closes))),
    ]
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    server = _server(application(mount, directory, admission), mount, settings)
    beside.append(asyncio.create_task(obey(stop, server)))
    try:
        await server.serve(sockets=[listener])
        # What the server gave up at the end of its patience still writes its close entry.
        await mount.idle(STOPPING_MAX_S)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await admission.finish()
        await upstream.close()
        vocabularies.close()
        await valkey.close()
        spool.shutdown()
        await database.close()
        _log.info("worker ended: %r", proxy)


def _directory(database: Database, settings: Settings) -> DirectoryService:
    return DirectoryService(
        database,
        settings.spool_dir / SNAPSHOT_NAME,
        now_us,
        monotonic_us,
        poll_interval_s=settings.gateway.directory_poll_interval_s,
        stale_max_s=settings.gateway.directory_stale_max_s,
    )


def _upstream(gateway: GatewaySettings) -> UpstreamPool:
    return UpstreamPool(
        connect_timeout_s=gateway.connect_timeout_s,
        head_timeout_s=gateway.reply_head_timeout_s,
        idle_timeout_s=gateway.reply_idle_timeout_s,
        connections_idle_max=gateway.connections_idle_per_backend_max,
        connection_idle_s=gateway.connection_idle_s,
    )


def _limits(settings: Settings) -> tuple[Valkey, Admission]:
    """The worker's way to Valkey and its admission, not yet connected."""
    if settings.redis_url is None:
        raise Misconfigured("a gateway worker needs REDIS_URL")
    limits = settings.limits
    valkey = Valkey(
        settings.redis_url,
        timeout_s=limits.timeout_s,
        queue_max=limits.queue_max,
        on_connected=lambda: admission.reconnected(),  # noqa: PLW0108 - it is made below
    )
    admission = Admission(LimitCache(valkey), now_us, monotonic_us, limits)
    return valkey, admission


def _flushers(
    proxy: Proxy, admission: Admission, directory: DirectoryService, closes: Closes
) -> list[Callable[[], None]]:
    def labels_of(key: tuple[str, ...]) -> tuple[str, ...]:
        """What was decided, by which scope and meter; the last two are empty where none decided."""
        decision = "_".join(key) if key[0] in {"fallback", "store"} else key[0]
        return (decision, *(key[1:] if key[0] in {"refused", "shadow"} else ("", "")))

    return [
        *worker_flushers(proxy.counts, closes),
        telemetry.Flusher(lambda: admission.counts, telemetry.LIMIT_DECISIONS, labels_of),
        lambda: telemetry.directory_age_seconds().set(directory.age_s()),
    ]


async def _keep_limits(admission: Admission) -> None:
    """Renew leases and look at the store, until cancelled; it never raises."""
    while True:
        await asyncio.sleep(CHECK_INTERVAL_S)
        await admission.renew()


def _server(app: Litestar, mount: ProxyMount, settings: Settings) -> uvicorn.Server:
    gateway = settings.gateway
    config = uvicorn.Config(
        app,
        http=limited_protocol(
            gateway.request_header_bytes_max, gateway.request_head_timeout_s, mount.__call__
        ),
        limit_concurrency=gateway.connections_per_worker_max,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # nothing here looks at the caller's address
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(gateway.drain_on_stop_s),
    )
    return uvicorn.Server(config)


def main() -> None:
    """Entry of the process: settings and the shared listening socket come as file descriptors."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--settings-fd", type=int, required=True)
    arguments.add_argument("--socket-fd", type=int, required=True)
    given = arguments.parse_args()
    log.set_up()
    settings = read_settings(given.settings_fd)
    # uvicorn takes these signals while it serves, and raises them once more afterwards: what must still be written then
    # would not be, if they ended the process.
    stop = StopSignal()
    with socket.socket(fileno=given.socket_fd) as listener:
        listener.setblocking(False)
        uvloop.run(serve(settings, listener, stop))


if __name__ == "__main__":
    main()
