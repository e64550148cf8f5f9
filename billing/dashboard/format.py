"""How the pages write numbers, amounts and time. Pure: the same value is written the same everywhere."""

from collections.abc import Sequence
from decimal import Decimal

from billing import money
from billing.clock import MICROSECONDS_PER_SECOND, rfc3339, to_datetime

ABSENT = "–"
UNKNOWN = "unknown"
SHORT_ID_LENGTH = 8

_MICROSECONDS_PER_MILLISECOND = 1_000
_TENTH_US = 100
_MINUTE_S = 60
_HOUR_S = 3_600
_DAY_S = 86_400
_SMALL_PACE_TENTHS = 1_000


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def signed(number: int) -> str:
    """A difference: ``+5``, ``−5``, ``0``."""
    return f"{'+' if number > 0 else '−' if number < 0 else ''}{abs(number):,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 request``, ``2 requests``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def words(name: str) -> str:
    """A name of the code as people read it: ``client_closed`` is ``client closed``."""
    return name.replace("_", " ")


def amounts(values: Sequence[Decimal], currency: str | None) -> list[str]:
    """Amounts with as many decimals as the longest needs, so that a column lines up and none is rounded."""
    least = money.exponent(currency) if currency else 2
    decimals = max([least, *(len(money.plain(value).partition(".")[2]) for value in values)])
    return [f"{value:,.{decimals}f}" for value in values]


def amount(value: Decimal, currency: str | None) -> str:
    """One amount, exact, with at least its currency's decimals."""
    return amounts([value], currency)[0]


def span(span_us: int | None) -> str:
    """A span as short as it can be read: ``950 µs``, ``12.3 ms``, ``4.12 s``, ``3 min 05 s``; cut, not rounded."""
    if span_us is None:
        return ABSENT
    if span_us < _TENTH_US:
        return f"{span_us} µs"
    if span_us < MICROSECONDS_PER_SECOND:
        whole, rest = divmod(span_us, _MICROSECONDS_PER_MILLISECOND)
        return f"{whole}.{rest // _TENTH_US} ms"
    seconds, rest = divmod(span_us, MICROSECONDS_PER_SECOND)
    if seconds < _MINUTE_S:
        return f"{seconds}.{rest // 10_000:02} s"
    return f"{seconds // _MINUTE_S:,} min {seconds % _MINUTE_S:02} s"


def pace(quantity: int, span_us: int) -> str:
    """Quantity a second: one decimal below 100, whole above; nothing where the span is none."""
    if span_us <= 0:
        return ABSENT
    tenths = quantity * 10 * MICROSECONDS_PER_SECOND // span_us
    return f"{tenths // 10}.{tenths % 10}" if tenths < _SMALL_PACE_TENTHS else count(tenths // 10)


def ago(instant_us: int, now_us: int) -> str:
    """How long ago, in the largest unit that fits; what lies ahead by a clock that differs is ``now``."""
    seconds = (now_us - instant_us) // MICROSECONDS_PER_SECOND
    if seconds <= 0:
        return "now"
    for unit, length_s in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= length_s:
            return f"{seconds // length_s} {unit} ago"
    return f"{seconds} s ago"


def clock(instant_us: int) -> str:
    """The time of day in UTC, to the second."""
    return f"{to_datetime(instant_us):%H:%M:%S}"


def day(instant_us: int) -> str:
    """The day in UTC."""
    return f"{to_datetime(instant_us):%Y-%m-%d}"


def moment(instant_us: int) -> str:
    """An instant in UTC, to the millisecond."""
    return f"{to_datetime(instant_us):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def minute(instant_us: int) -> str:
    """An instant in UTC, to the minute."""
    return f"{to_datetime(instant_us):%Y-%m-%d %H:%M}"


def timestamp(instant_us: int) -> str:
    """An instant for machines: RFC 3339 in UTC."""
    return rfc3339(instant_us)


def short_id(text: str) -> str:
    """The end of an id, which tells ids of one moment apart where their beginnings are equal."""
    return f"…{text[-SHORT_ID_LENGTH:]}"


def percentile(values: Sequence[int], hundredths: int) -> int | None:
    """The smallest value that at least so many hundredths of the values do not exceed (nearest rank); None of none."""
    if not values:
        return None
    rank = -(-len(values) * hundredths // 100)
    return sorted(values)[max(rank, 1) - 1]
