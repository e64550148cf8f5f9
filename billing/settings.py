"""Settings: one frozen value, made once at the edge from the environment and command line, checked whole, passed in.

No other file reads the environment. Units stand last in a name.
"""

from enum import StrEnum
from pathlib import Path

import msgspec

from billing.errors import Misconfigured

MIB = 1 << 20


def http_url(host: str, port: int) -> str:
    """The address of a port; the host of an IPv6 address stands in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Durability(StrEnum):
    """When a reply's record must be on disk (P2)."""

    BEFORE_REPLY = "before_reply"
    AFTER_REPLY = "after_reply"


class GatewaySettings(msgspec.Struct, frozen=True):
    """Limits and timeouts of the data plane."""

    host: str = "127.0.0.1"
    port: int = 8090
    workers: int = 2
    durability: Durability = Durability.BEFORE_REPLY
    request_body_bytes_max: int = 10 * MIB
    request_header_bytes_max: int = 64 * 1024
    request_header_count_max: int = 100
    request_head_timeout_s: float = 30.0
    request_body_timeout_s: float = 30.0
    client_stall_timeout_s: float = 120.0
    connections_per_worker_max: int = 10_000
    connect_timeout_s: float = 2.0
    reply_head_timeout_s: float = 600.0
    reply_idle_timeout_s: float = 300.0
    reply_body_bytes_max: int = 64 * MIB
    hang_up_grace_s: float = 0.25
    drain_after_finish_s: float = 2.0
    drain_after_hang_up_s: float = 600.0
    """How long a backend whose policy is to drain may go on with a whole reply that nobody waits for."""
    progress_interval_s: float = 1.0
    tokenize_timeout_s: float = 2.0
    connections_idle_per_backend_max: int = 256
    connection_idle_s: float = 4.0
    directory_poll_interval_s: float = 0.5
    directory_stale_max_s: float = 900.0
    drain_on_stop_s: float = 30.0
    control_url: str | None = None
    """Where tenants' programs reach the control process, for those that ask the gateway what only it answers."""

    @property
    def url(self) -> str:
        """Where clients send their requests, as far as this machine knows."""
        return http_url(self.host, self.port)


class SpoolSettings(msgspec.Struct, frozen=True):
    """Size and life of the local durable log."""

    bytes_max: int = 512 * MIB
    reserve_bytes: int = 16 * MIB
    segment_bytes_max: int = 16 * MIB
    retention_s: float = 72 * 3600.0


class RecorderSettings(msgspec.Struct, frozen=True):
    """How the recorder batches."""

    batch_records_max: int = 2000
    poll_interval_s: float = 0.05
    retry_delay_s: float = 0.5


class LimitsSettings(msgspec.Struct, frozen=True):
    """How gateways ask Valkey, and what holds while it does not answer."""

    timeout_s: float = 0.05
    lease_s: float = 30.0
    """How long a slot or a reservation outlives its gateway."""
    renewal_interval_s: float = 10.0
    replicas_max: int = 8
    """Gateway workers over all machines, at most: what an ``open`` limit is divided by while Valkey is away."""
    queue_max: int = 20_000
    clock_difference_max_s: float = 2.0
    output_bound_tokens: int = 1_024
    """Output reserved for a request that does not say ``max_tokens``."""


class ControlSettings(msgspec.Struct, frozen=True):
    """Where operators are served: the admin API and the page."""

    host: str = "127.0.0.1"
    port: int = 8091
    request_body_bytes_max: int = 1 * MIB
    session_s: float = 12 * 3600.0
    """How long a browser stays signed in."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose connections are proxies of ours: their X-Forwarded-For and X-Forwarded-Proto are believed."""


class Settings(msgspec.Struct, frozen=True):
    """Everything a process needs to know, complete. ``database_url`` None means: start the embedded engine."""

    data_dir: Path = Path(".billing")
    database_url: str | None = None
    redis_url: str | None = None
    gateway: GatewaySettings = GatewaySettings()
    spool: SpoolSettings = SpoolSettings()
    recorder: RecorderSettings = RecorderSettings()
    limits: LimitsSettings = LimitsSettings()
    control: ControlSettings = ControlSettings()
    admin_token_hash: str | None = None
    """SHA-256 (hex) of the token that operators send; None refuses every admin route."""

    def __repr__(self) -> str:
        """Without the URLs: a password may stand in them."""
        database = "given" if self.database_url else "embedded"
        return (
            f"<Settings data_dir={self.data_dir} database={database} {self.gateway.host}:{self.gateway.port}>"
        )

    @property
    def spool_dir(self) -> Path:
        """Where this host's spools live, one folder each."""
        return self.data_dir / "spool"

    @property
    def metrics_dir(self) -> Path:
        """Where this host's processes keep their counters, so that any of them can answer for all."""
        return self.data_dir / "run" / "metrics"


def check(settings: Settings) -> Settings:
    """The same settings, or ``Misconfigured`` listing every contradiction at once."""
    faults = []
    if not 1 <= settings.gateway.workers <= 64:  # noqa: PLR2004 - one machine
        faults.append(f"workers must be 1 to 64, got {settings.gateway.workers}")
    if not 0 <= settings.gateway.port <= 65535:  # noqa: PLR2004 - TCP
        faults.append(f"port must be 0 to 65535, got {settings.gateway.port}")
    if not 0 <= settings.control.port <= 65535:  # noqa: PLR2004 - TCP
        faults.append(f"control port must be 0 to 65535, got {settings.control.port}")
    if not 1 <= settings.limits.replicas_max <= 100_000:  # noqa: PLR2004 - the largest fleet that is thought of
        faults.append(f"replicas_max must be 1 to 100,000, got {settings.limits.replicas_max}")
    if settings.limits.renewal_interval_s * 2 > settings.limits.lease_s:
        faults.append("a lease must be renewed at least twice in its time: renewal_interval_s is too long")
    if settings.spool.reserve_bytes >= settings.spool.bytes_max:
        faults.append("spool reserve must be smaller than the spool's size limit")
    if settings.database_url is not None and not settings.database_url.startswith(
        ("postgres://", "postgresql://")
    ):
        faults.append("DATABASE_URL must start with postgresql://")
    if faults:
        raise Misconfigured("; ".join(faults))
    return settings
