"""The one tree of domain errors. Each carries a kind; the edge maps kinds to statuses in one place.

BillingError
  InvalidInput          what the caller sent cannot be accepted; the sentence says what, where and what to do
    WrongMethod         the path takes another HTTP method
    TooLarge            it is larger than a limit with a name
    HeadersTooLarge     the request's headers are
  NotFound              the thing named does not exist for this caller
  Conflict              it exists already, or its state does not allow this
  Forbidden             the caller is known and may not
  Unauthenticated       the caller is not known
  Exhausted             a limit, a balance or a buffer is used up for now
    LimitReached        a rate limit of the caller's
  Unavailable           something this needs cannot be reached now; nothing was lost
    LimitsUnavailable   a limit that must hold cannot be checked
    SpoolFull           the local durable log has no room: nothing is served unmetered
    UpstreamUnreachable no connection to the engine, and zero reply bytes have come
    UpstreamTimeout     the engine did not answer in time
    UpstreamBroken      the engine's reply broke off or was not HTTP
    UpstreamRefused     the engine answered, but not the request: its status is our operator's business
    UpstreamOverloaded  the engine has no room for the request now
  Misconfigured         settings or files contradict themselves; the process does not start
"""

from collections.abc import Sequence
from typing import ClassVar


class BillingError(Exception):
    """Root of every error this project raises on purpose; ``kind`` is its machine-readable name."""

    kind: ClassVar[str] = "internal"


class InvalidInput(BillingError):
    """What the caller sent cannot be accepted.

    ``param`` names the field in the caller's own words (``messages[0].role``), or is None when the whole is meant.
    """

    kind = "invalid_input"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class WrongMethod(InvalidInput):
    """The thing named does not take this HTTP method; ``allow`` is the one that it takes."""

    kind = "wrong_method"

    def __init__(self, message: str, param: str | None = None, *, allow: str = "") -> None:
        super().__init__(message, param)
        self.allow = allow


class TooLarge(InvalidInput):
    """What the caller sent is larger than a limit with a name."""

    kind = "too_large"


class HeadersTooLarge(InvalidInput):
    """The request's headers are too many or too long."""

    kind = "headers_too_large"


class NotFound(BillingError):
    """The thing named does not exist for this caller; ``param`` is the caller's word for it, if it has one."""

    kind = "not_found"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Conflict(BillingError):
    """It exists already, or its state does not allow this."""

    kind = "conflict"


class Forbidden(BillingError):
    """The caller is known and may not."""

    kind = "forbidden"


class Unauthenticated(BillingError):
    """The caller is not known."""

    kind = "unauthenticated"


class Exhausted(BillingError):
    """A limit, a balance or a buffer is used up for now."""

    kind = "exhausted"


class LimitReached(Exhausted):
    """A rate limit of the caller's: which one, and when to come back.

    ``meter`` is what it counts (``limits.limit.Meter``), ``retry_after_us`` how long it takes until
    the same request fits, ``headers`` what the reply says of the caller's limits.
    """

    kind = "limit_reached"

    def __init__(
        self,
        message: str,
        *,
        meter: str = "requests",
        retry_after_us: int = 1_000_000,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.meter = meter
        self.retry_after_us = retry_after_us
        self.headers = tuple(headers)


class Unavailable(BillingError):
    """Something this needs cannot be reached now; nothing was lost."""

    kind = "unavailable"


class LimitsUnavailable(Unavailable):
    """A limit that must hold cannot be checked, and its policy is to refuse then."""

    kind = "limits_unavailable"


class SpoolFull(Unavailable):
    """The local durable log has no room: nothing is served unmetered."""

    kind = "spool_full"


class UpstreamUnreachable(Unavailable):
    """No connection to the engine, and zero reply bytes have come."""

    kind = "upstream_unreachable"


class UpstreamTimeout(Unavailable):
    """The engine did not answer in time."""

    kind = "upstream_timeout"


class UpstreamBroken(Unavailable):
    """The engine's reply broke off or was not HTTP."""

    kind = "upstream_broken"


class UpstreamRefused(Unavailable):
    """The engine answered, but not the request: its status is our operator's business."""

    kind = "upstream_refused"


class UpstreamOverloaded(Unavailable):
    """The engine has no room for the request now."""

    kind = "upstream_overloaded"


class Misconfigured(BillingError):
    """Settings or files contradict themselves; the process does not start."""

    kind = "misconfigured"
