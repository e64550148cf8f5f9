"""What a reply tells of the caller's limits: ``x-ratelimit-*`` as OpenAI's clients read them."""

from collections.abc import Sequence

from billing.clock import MICROSECONDS_PER_SECOND
from billing.limits.bucket import Verdict
from billing.limits.limit import Limit, Meter

Headers = list[tuple[bytes, bytes]]

_MILLISECOND_US = 1_000
_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
_NAMES = {
    meter: tuple(f"x-ratelimit-{word}-{meter}".encode() for word in ("limit", "remaining", "reset"))
    for meter in (Meter.REQUESTS, Meter.TOKENS)
}


def headers(limits: Sequence[Limit], verdicts: Sequence[Verdict]) -> Headers:
    """Limit, what remains and when all is there again, of the tightest enforced limit of each meter.

    The tightest is the one of which the smallest share remains. Nobody is told of a limit that only counts. Where a
    burst holds more than a window's amount, no more than the amount is told to remain, and it is there again that much
    sooner: clients read what remains as a part of the limit.
    """
    tightest: dict[Meter, tuple[float, Limit, Verdict]] = {}
    for limit, verdict in zip(limits, verdicts, strict=True):
        if limit.meter in _NAMES and limit.is_enforced:
            share = verdict.remaining / limit.capacity
            if limit.meter not in tightest or share < tightest[limit.meter][0]:
                tightest[limit.meter] = (share, limit, verdict)
    lines: Headers = []
    for meter, names in _NAMES.items():
        if meter in tightest:
            _, limit, verdict = tightest[meter]
            remaining = min(verdict.remaining, limit.amount)
            values = (b"%d" % limit.amount, b"%d" % remaining, duration(_reset_us(limit, verdict)))
            lines += zip(names, values, strict=True)
    return lines


def _reset_us(limit: Limit, verdict: Verdict) -> int:
    """How long until a whole amount remains, or the burst if that is less."""
    beyond = limit.capacity - limit.amount
    if beyond <= 0 or limit.window_s is None:
        return verdict.reset_us
    return max(0, verdict.reset_us - beyond * limit.window_s * MICROSECONDS_PER_SECOND // limit.amount)


def duration(microseconds: int) -> bytes:
    """A time as OpenAI writes it, rounded up to a millisecond: ``120ms``, ``1s``, ``7.66s``, ``6m0s``, ``1h0m0s``."""
    milliseconds = -(-microseconds // _MILLISECOND_US)
    if 0 < milliseconds < _SECOND_MS:
        return b"%dms" % milliseconds
    hours, rest = divmod(milliseconds, _HOUR_MS)
    minutes, rest = divmod(rest, _MINUTE_MS)
    seconds = b"%d.%03d" % divmod(rest, _SECOND_MS)
    told = seconds.rstrip(b"0").rstrip(b".") + b"s"
    if hours:
        return b"%dh%dm%s" % (hours, minutes, told)
    return b"%dm%s" % (minutes, told) if minutes else told
