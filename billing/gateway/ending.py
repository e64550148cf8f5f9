"""How a request ended, as far as its record wants to know (pure)."""

import msgspec

from billing.tokens.meter import StreamMeter
from billing.tokens.usage import Outcome, TokenUsage


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
