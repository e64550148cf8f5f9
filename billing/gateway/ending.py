"""How a request ended, as far as its record wants to know (pure)."""

from collections.abc import Mapping

import msgspec

from billing.errors import BillingError, UpstreamOverloaded, UpstreamRefused
from billing.gateway.work import Work
from billing.tokens.meter import StreamMeter
from billing.tokens.usage import Count, Outcome, Part, Provenance, TokenUsage

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
    ttfa_us: int | None = None
    itl_us: int | None = None
    gap_max_us: int | None = None
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


def stream_ending(
    work: Work, meter: StreamMeter, status: int, outcome: Outcome, fault: BillingError | None
) -> Ending:
    """How a stream ended: its counts as they are known now, and its latencies since the request's arrival."""
    at_us = work.request.at_us
    return Ending(
        outcome=outcome,
        status=status,
        usage=with_units(meter.usage(), work.call.units()),
        ttft_us=_since(at_us, meter.first_token_us),
        ttfa_us=_since(at_us, meter.first_answer_us),
        itl_us=meter.itl_us(),
        gap_max_us=meter.gap_max_us or None,
        response_id=meter.response_id,
        response_model=meter.response_model,
        error=fault.kind if fault else "upstream_error" if meter.failed else None,
    )


def with_units(usage: TokenUsage, units: Mapping[Part, int]) -> TokenUsage:
    """The same usage; where no reply told tokens or units, what the request itself says it uses."""
    if not units or usage.parts or usage.input.value is not None or usage.output.value is not None:
        return usage
    parts = {part: Count(number, Provenance.COUNTED, "of the request") for part, number in units.items()}
    return msgspec.structs.replace(usage, parts=parts)


def _since(start_us: int, instant_us: int | None) -> int | None:
    return None if instant_us is None else max(0, instant_us - start_us)


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
