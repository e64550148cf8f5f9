"""Reads cumulative numbers out of an engine's ``/metrics`` page, for reconciliation against what was metered.

The format is Prometheus' text exposition, version 0.0.4, and OpenMetrics where it agrees.
"""

import re
from collections.abc import Iterable
from decimal import Context, Decimal, InvalidOperation

DIGITS_MAX = 38
"""A number with more digits before the point, or as many zeros behind it, is no count: its sample is left out."""
NUMBER_LENGTH_MAX = 2 * DIGITS_MAX
"""Characters of a written number; a longer one is left out too."""

_EXACT = Context(prec=2 * (DIGITS_MAX + NUMBER_LENGTH_MAX))
"""So wide that no sum of accepted numbers is ever rounded."""
_QUANTILE = re.compile(r'[{,][ \t]*quantile="')
_SAMPLE = re.compile(r'([A-Za-z_:][\w:]*)(\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?[ \t]+(\S+)', re.ASCII)
_TYPE = re.compile(r"#[ \t]+TYPE[ \t]+(\S+)[ \t]+(\S+)")
_NOT_CUMULATIVE_SUFFIXES = ("_bucket", "_created")


def parse_counters(text: str) -> dict[str, int | Decimal]:
    """Every cumulative number by its name as exposed (``vllm:prompt_tokens_total``), summed over its label sets.

    Whole numbers are ``int`` and exact; others are ``Decimal``. Counters, untyped samples and the ``_sum`` and
    ``_count`` of histograms are in it. Gauges, buckets, quantiles and numbers that are not finite are not. Lines that
    are no samples are passed over: a missing name is for the caller to notice. Never raises.
    """
    lines = [line.strip() for line in text.splitlines()]
    gauges = _gauges(lines)
    sums: dict[str, int | Decimal] = {}
    for line in lines:
        sample = _SAMPLE.match(line)
        if sample is None or sample[1] in gauges or not _is_cumulative(sample[1], sample[2] or ""):
            continue
        number = _number(sample[3])
        if number is not None:
            sums[sample[1]] = _sum(sums.get(sample[1], 0), number)
    return sums


def _gauges(lines: Iterable[str]) -> set[str]:
    types = (_TYPE.match(line) for line in lines)
    return {found[1] for found in types if found is not None and found[2] == "gauge"}


def _is_cumulative(name: str, labels: str) -> bool:
    return not name.endswith(_NOT_CUMULATIVE_SUFFIXES) and _QUANTILE.search(labels) is None


def _number(text: str) -> int | Decimal | None:
    """The finite number that a sample's value writes, or None."""
    try:
        number = Decimal(text) if len(text) <= NUMBER_LENGTH_MAX else Decimal("NaN")
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() >= DIGITS_MAX or number.adjusted() < -DIGITS_MAX:
        return None
    return _whole(number)


def _sum(left: int | Decimal, right: int | Decimal) -> int | Decimal:
    return _whole(_EXACT.add(Decimal(left), Decimal(right)))


def _whole(number: Decimal) -> int | Decimal:
    return int(number) if number == number.to_integral_value() else number
