"""How a request ended, as far as its record wants to know (pure)."""

import re

import msgspec

from billing.errors import BillingError, UpstreamOverloaded, UpstreamRefused
from billing.tokens.meter import StreamMeter
from billing.tokens.usage import Count, Outcome, Provenance, TokenUsage

LABEL_LENGTH_MAX = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# What these say is about the caller's own request: too long, too large, too fast.
_CALLERS_OWN = frozenset({400, 413, 422, 429})
_OVERLOADED = frozenset({503, 529})
_STATUS = {UpstreamRefused: 502, UpstreamOverloaded: 503}


class Ending(msgspec.Struct, frozen=True):
    """How a request ended, as far as the record wants to know."""

    outcome: Outcome
    status: int
    usage: TokenUsage
    ttft_us: int | None = None
    itl_us: int | None = None
    response_id: str | None = None
    response_model: str | None = None
    error: str | None = None


def stream_outcome(meter: StreamMeter, *, gone: bool, complete: bool) -> Outcome:
    """How a stream ended (P1): the caller's leaving counts first, then the engine's error, then a missing end."""
    if gone:
        return Outcome.CLIENT_CLOSED
    if meter.failed:
        return Outcome.UPSTREAM_ERROR
    if meter.done or (meter.finished and complete):
        return Outcome.COMPLETE
    return Outcome.TRUNCATED


def refusal(status: int) -> tuple[Ending, BillingError | None]:
    """The ending of a request that the engine refused with a status, and what the caller is told in its place.

    None: the engine's own answer, which is about the caller's request. A caller never sees an engine's 401 or 404,
    say: those are about our credential and our names, and would make tenants exchange good keys.
    """
    none = Count(0, Provenance.REPORTED, f"the engine refused with {status}")
    ending = Ending(
        Outcome.UPSTREAM_ERROR, status, TokenUsage(input=none, output=none), error="upstream_refused"
    )
    if status in _CALLERS_OWN:
        return ending, None
    fault = (UpstreamOverloaded if status in _OVERLOADED else UpstreamRefused)(
        f"the engine refused with {status}"
    )
    return msgspec.structs.replace(ending, status=_STATUS[type(fault)], error=fault.kind), fault


def label(text: str | None) -> str | None:
    """Somebody else's name for something, fit for a record: of bounded length and without control characters.

    Postgres refuses NUL, and what a terminal takes for a command has no place in an operator's list.
    """
    return None if text is None else _CONTROL.sub("", text[:LABEL_LENGTH_MAX])
