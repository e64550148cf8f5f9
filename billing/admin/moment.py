"""Instants of the admin API: RFC 3339 in UTC on the way out, any offset on the way in."""

from billing.clock import rfc3339
from billing.errors import InvalidInput
from billing.pricing.instant import OutOfYears, parse_instant


def written(instant_us: int) -> str:
    """An instant as ``2026-11-24T10:00:00Z``, with microseconds only where there are any."""
    return rfc3339(instant_us)


def written_or_none(instant_us: int | None) -> str | None:
    """The same, or null."""
    return None if instant_us is None else written(instant_us)


def instant(text: str | None, where: str) -> int | None:
    """The instant of a text in microseconds; raises ``InvalidInput`` naming ``where``."""
    if text is None:
        return None
    try:
        return parse_instant(text)
    except OutOfYears as fault:
        raise InvalidInput(f"{where}: {text[:40]!r} {fault}", where) from None
    except ValueError:
        raise InvalidInput(
            f"{where}: {text[:40]!r} is not an instant; write for example 2026-11-01T00:00:00Z", where
        ) from None
