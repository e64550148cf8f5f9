"""Errors and limits as callers of Anthropic's API read them (pure).

Statuses and sentences are those of :mod:`billing.gateway.problem`; types, envelope and headers are Anthropic's
(its SDK's ``types/shared``, ``_base_client.py`` and ``_streaming.py``; protocols.md §10).
"""

import re
from collections.abc import Iterable
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND, to_datetime
from billing.errors import BillingError, LimitReached
from billing.gateway import problem as openai
from billing.gateway.ports import Headers
from billing.gateway.problem import Problem

RETRY_AFTER_S_MAX = 60
"""A longer wait is passed over by Anthropic's clients, which then retry too early: they are told not to retry at all."""

_STATUSES = {"upstream_overloaded": 529}
"""Where Anthropic has a status of its own for a kind of error."""
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_SERVER_STATUS_MIN = 500
_DO_NOT_RETRY = (b"x-should-retry", b"false")
_LIMIT = re.compile(rb"x-ratelimit-(limit|remaining|reset)-(requests|tokens|input-tokens|output-tokens)")
_DURATION = re.compile(
    r"(?:(?P<hours>\d{1,15})h)?(?:(?P<minutes>\d{1,15})m)?(?:(?P<seconds>\d{1,15})(?:\.(?P<part>\d{1,3}))?s)?"
)
_MILLISECONDS = re.compile(r"(\d{1,15})ms")
_MILLISECOND_US = 1_000
_MINUTE_US = 60 * MICROSECONDS_PER_SECOND
_HOUR_US = 60 * _MINUTE_US
_LATEST_US = 253_402_300_799 * MICROSECONDS_PER_SECOND
"""The last second that RFC 3339 can write, of the year 9999."""


class _Openai(msgspec.Struct, frozen=True):
    message: str


class _Envelope(msgspec.Struct, frozen=True):
    error: _Openai


_sentence = msgspec.json.Decoder(_Envelope).decode


def problem(fault: BillingError, request_id: UUID, now_us: int) -> Problem:
    """Status and headers of an error, and ``{"type": "error", "error": {"type", "message"}, "request_id"}``."""
    told = openai.problem(fault)
    status = _STATUSES.get(fault.kind, told.status)
    envelope = {
        "type": "error",
        "error": {"type": _type(status), "message": _sentence(told.body).error.message},
        "request_id": str(request_id),
    }
    headers = [*rate_headers(told.headers, now_us), (b"request-id", str(request_id).encode())]
    if isinstance(fault, LimitReached) and fault.retry_after_us > RETRY_AFTER_S_MAX * MICROSECONDS_PER_SECOND:
        headers.append(_DO_NOT_RETRY)
    return Problem(status, msgspec.json.encode(envelope), tuple(headers))


def event(fault: BillingError, request_id: UUID) -> bytes:
    """The same error inside a stream that has begun: Anthropic's clients raise on an event named ``error``."""
    return b"event: error\ndata: %b\n\n" % problem(fault, request_id, 0).body


def rate_headers(headers: Iterable[tuple[bytes, bytes]], now_us: int) -> Headers:
    """The same headers with what they tell of limits in Anthropic's words.

    ``x-ratelimit-reset-tokens: 1m30s`` becomes ``anthropic-ratelimit-tokens-reset``, an RFC 3339 instant after ``now_us``,
    rounded up to a second so that it is never too early. A duration that cannot be read is left out.
    """
    lines: Headers = []
    for name, value in headers:
        limit = _LIMIT.fullmatch(name)
        if limit is None:
            lines.append((name, value))
            continue
        word, meter = limit.groups()
        told = _instant(value, now_us) if word == b"reset" else value
        if told is not None:
            lines.append((b"anthropic-ratelimit-%b-%b" % (meter, word), told))
    return lines


def _type(status: int) -> str:
    unnamed = "api_error" if status >= _SERVER_STATUS_MIN else "invalid_request_error"
    return _TYPES.get(status, unnamed)


def _instant(duration: bytes, now_us: int) -> bytes | None:
    """``2026-11-24T10:00:01Z``: when a duration after ``now_us`` is over."""
    microseconds = _microseconds(duration.decode("ascii", errors="replace"))
    if microseconds is None:
        return None
    end_us = min(now_us + microseconds, _LATEST_US)
    whole_us = -(-end_us // MICROSECONDS_PER_SECOND) * MICROSECONDS_PER_SECOND
    return to_datetime(whole_us).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def _microseconds(duration: str) -> int | None:
    """A time as :func:`billing.limits.headers.duration` writes it: ``120ms``, ``7.66s``, ``6m0s``, ``1h0m0s``."""
    short = _MILLISECONDS.fullmatch(duration)
    if short is not None:
        return int(short[1]) * _MILLISECOND_US
    long = _DURATION.fullmatch(duration)
    if long is None or not duration:
        return None
    milliseconds = int((long["part"] or "0").ljust(3, "0"))
    return (
        int(long["hours"] or 0) * _HOUR_US
        + int(long["minutes"] or 0) * _MINUTE_US
        + int(long["seconds"] or 0) * MICROSECONDS_PER_SECOND
        + milliseconds * _MILLISECOND_US
    )
