"""What a reply tells of the caller's limits: ``x-ratelimit-*`` as OpenAI's clients read them."""

from collections.abc import Sequence

from billing.limits.bucket import Verdict
from billing.limits.limit import Limit, Meter

Headers = list[tuple[bytes, bytes]]

_MILLISECOND_US = 1_000
_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
_TOLD = (Meter.REQUESTS, Meter.TOKENS)


def headers(limits: Sequence[Limit], verdicts: Sequence[Verdict]) -> Headers:
    """Limit, what remains and when all is there again, of the tightest enforced limit of each meter.

    The tightest is the one of which the smallest share remains. Nobody is told of a limit that only counts.
    """
    tightest: dict[Meter, tuple[float, Limit, Verdict]] = {}
    for limit, verdict in zip(limits, verdicts, strict=True):
        share = verdict.remaining / limit.capacity
        if limit.is_enforced and (limit.meter not in tightest or share < tightest[limit.meter][0]):
            tightest[limit.meter] = (share, limit, verdict)
    return [line for meter in _TOLD if meter in tightest for line in _lines(meter, *tightest[meter][1:])]


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


def _lines(meter: Meter, limit: Limit, verdict: Verdict) -> Headers:
    name = meter.value.encode()
    return [
        (b"x-ratelimit-limit-" + name, b"%d" % limit.amount),
        (b"x-ratelimit-remaining-" + name, b"%d" % verdict.remaining),
        (b"x-ratelimit-reset-" + name, duration(verdict.reset_us)),
    ]
