"""What a reply tells of the caller's limits.

``x-ratelimit-*`` as OpenAI's clients read them (with ``input-tokens`` and ``output-tokens``, which OpenAI has no words for;
``gateway/anthropic_problem.py`` turns all into Anthropic's), and ``RateLimit-Policy`` and ``RateLimit`` as the IETF drafts
them (draft-ietf-httpapi-ratelimit-headers-10).
"""

from collections.abc import Sequence

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.limits.bucket import Verdict
from billing.limits.limit import Limit, Meter

Headers = list[tuple[bytes, bytes]]

_MILLISECOND_US = 1_000
_SECOND_MS = 1_000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
_METERS = (Meter.REQUESTS, Meter.TOKENS, Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)
"""What is told of, in this order. Slots are not: no client knows what to do about them."""


class Telling(msgspec.Struct, frozen=True):
    """What is told of a limit whatever is left of it, made once: the hot path only adds numbers."""

    place: int
    """Among the meters."""
    capacity: int
    amount: int
    beyond_us: int
    """How much sooner than the whole burst a whole amount is there."""
    limit: tuple[bytes, bytes]
    remaining: bytes
    reset: bytes
    policy: bytes
    left: bytes
    """The IETF's words, with places for what is left and in how many seconds all is there again."""


def telling_of(limit: Limit) -> Telling | None:
    """What is told of a limit; None of one that nobody is told of: slots, and limits that only count."""
    if limit.meter not in _METERS or not limit.is_enforced or limit.window_s is None:
        return None
    name = limit.meter.value.replace("_", "-")
    beyond = limit.capacity - limit.amount
    return Telling(
        place=_METERS.index(limit.meter),
        capacity=limit.capacity,
        amount=limit.amount,
        beyond_us=max(0, beyond * limit.window_s * MICROSECONDS_PER_SECOND // limit.amount),
        limit=(f"x-ratelimit-limit-{name}".encode(), b"%d" % limit.amount),
        remaining=f"x-ratelimit-remaining-{name}".encode(),
        reset=f"x-ratelimit-reset-{name}".encode(),
        policy=f'"{name}";q={limit.amount};w={limit.window_s}'.encode(),
        left=f'"{name}";r=%d;t=%d'.encode(),
    )


def headers(tellings: Sequence[Telling | None], verdicts: Sequence[Verdict]) -> Headers:
    """Limit, what remains and when all is there again, of the tightest limit of each meter.

    The tightest is the one of which the smallest share remains. Where a burst holds more than a window's amount, no more
    than the amount is told to remain, and it is there again that much sooner: clients read what remains as a part of it.
    """
    tightest: list[tuple[float, Telling, Verdict] | None] = [None, None, None, None]
    for telling, verdict in zip(tellings, verdicts, strict=True):
        if telling is not None:
            share = verdict.remaining / telling.capacity
            known = tightest[telling.place]
            if known is None or share < known[0]:
                tightest[telling.place] = (share, telling, verdict)
    lines: Headers = []
    policies, lefts = [], []
    for found in tightest:
        if found is not None:
            _, telling, verdict = found
            remaining = min(telling.amount, verdict.remaining)
            reset_us = max(0, verdict.reset_us - telling.beyond_us)
            lines += (
                telling.limit,
                (telling.remaining, b"%d" % remaining),
                (telling.reset, duration(reset_us)),
            )
            policies.append(telling.policy)
            lefts.append(telling.left % (remaining, -(-reset_us // MICROSECONDS_PER_SECOND)))
    if policies:
        lines += ((b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(lefts)))
    return lines


def duration(microseconds: int) -> bytes:
    """A time as OpenAI writes it, rounded up to a millisecond: ``120ms``, ``1s``, ``7.66s``, ``6m0s``, ``1h0m0s``."""
    milliseconds = -(-microseconds // _MILLISECOND_US)
    if milliseconds == 0:
        return b"0s"
    if milliseconds < _SECOND_MS:
        return b"%dms" % milliseconds
    hours, rest = divmod(milliseconds, _HOUR_MS)
    minutes, rest = divmod(rest, _MINUTE_MS)
    seconds = b"%d.%03d" % divmod(rest, _SECOND_MS)
    told = seconds.rstrip(b"0").rstrip(b".") + b"s"
    if hours:
        return b"%dh%dm%s" % (hours, minutes, told)
    return b"%dm%s" % (minutes, told) if minutes else told
