import random
from collections import Counter
from itertools import pairwise
from uuid import UUID

import pytest

from billing.ids import instant_of
from billing.metering.event import encode_entry, interrupt, settle
from billing.metering.segment import ENTRY_BYTES_MAX
from billing.metering.synthetic import (
    DAY_US,
    ENGINES,
    MODELS,
    TAGS,
    Exchange,
    Party,
    Randomness,
    Span,
    day_start,
    history,
)
from billing.tokens.components import components
from billing.tokens.usage import Outcome, Provenance, clamp, weakest

MONDAY_US = 1_793_577_600_000_000
"""2 November 2026."""
BACKENDS = dict(zip(ENGINES, (UUID(int=1), UUID(int=2)), strict=True))
PARTIES = [
    Party(number, UUID(int=10 + number), ((UUID(int=50), None), (UUID(int=51), UUID(int=52))))
    for number in range(1, 11)
]
FOUR_WEEKS = Span(MONDAY_US, 28, 50)


def source(name: str) -> Randomness:
    return random.Random(f"1/{name}")


def made(parties: list[Party] = PARTIES, span: Span = FOUR_WEEKS) -> list[Exchange]:
    return list(history(parties, BACKENDS, span, source))


@pytest.fixture(scope="module")
def month() -> list[Exchange]:
    return made()


def outcome(exchange: Exchange) -> Outcome:
    return exchange.closed.outcome if exchange.closed else Outcome.INTERRUPTED


def test_requests_come_in_the_order_of_their_arrival_within_the_days_asked_for(
    month: list[Exchange],
) -> None:
    instants = [instant_of(exchange.opened.id) for exchange in month]
    assert all(earlier <= later for earlier, later in pairwise(instants))
    assert MONDAY_US <= instants[0] <= instants[-1] < FOUR_WEEKS.end_us


def test_there_are_about_as_many_as_asked_for_and_no_id_twice(month: list[Exchange]) -> None:
    assert abs(len(month) / (10 * 28 * 50) - 1) < 0.05
    assert len({exchange.opened.id for exchange in month}) == len(month)


def test_the_same_randomness_makes_the_same_requests(month: list[Exchange]) -> None:
    assert made() == month


def test_a_day_of_a_tenant_is_the_same_whatever_else_is_made(month: list[Exchange]) -> None:
    tuesday = Span(MONDAY_US + DAY_US, 1, 50)
    alone = made([PARTIES[3]], tuesday)
    among = [
        exchange
        for exchange in month
        if exchange.opened.tenant_id == PARTIES[3].tenant_id
        and tuesday.start_us <= instant_of(exchange.opened.id) < tuesday.end_us
    ]
    assert alone
    assert alone == among


def test_another_rate_makes_other_ids(month: list[Exchange]) -> None:
    busier = made(PARTIES, Span(MONDAY_US, 28, 51))
    ids = {exchange.opened.id for exchange in month}
    assert not [exchange for exchange in busier if exchange.opened.id in ids]


def test_weekends_and_nights_are_quiet(month: list[Exchange]) -> None:
    instants = [instant_of(e.opened.id) for e in month if e.opened.tenant_id == PARTIES[0].tenant_id]
    days = Counter((at_us - MONDAY_US) // DAY_US % 7 for at_us in instants)
    hours = Counter(at_us % DAY_US // (DAY_US // 24) for at_us in instants)
    assert max(days[5], days[6]) < min(days[day] for day in range(5)) * 0.7
    assert sum(hours[hour] for hour in range(5)) * 5 < sum(hours[hour] for hour in range(10, 15))


def test_most_requests_end_well_and_every_other_end_is_there(month: list[Exchange]) -> None:
    ends = Counter(map(outcome, month))
    assert set(ends) == set(Outcome)
    assert 0.96 < ends[Outcome.COMPLETE] / len(month) < 0.99


def test_every_model_provenance_and_both_kinds_of_reply_are_there(month: list[Exchange]) -> None:
    assert {exchange.opened.model for exchange in month} == set(MODELS)
    assert {exchange.opened.stream for exchange in month} == {True, False}
    known = {weakest(exchange.closed.usage) for exchange in month if exchange.closed}
    assert known == set(Provenance)


def test_counts_are_within_one_another_and_every_record_can_be_made(month: list[Exchange]) -> None:
    for exchange in month:
        closed, opened = exchange.closed, exchange.opened
        record = settle(opened, closed) if closed else interrupt(opened, exchange.progress)
        assert clamp(record.usage) == record.usage
        used = (record.usage.input.value or 0) + (record.usage.output.value or 0)
        assert components(record.usage).total == used
        assert len(encode_entry(opened)) < ENTRY_BYTES_MAX // 100


def test_only_streams_break_off_half_way(month: list[Exchange]) -> None:
    broken = {Outcome.CLIENT_CLOSED, Outcome.TRUNCATED, Outcome.INTERRUPTED}
    assert all(exchange.opened.stream for exchange in month if outcome(exchange) in broken)


def test_latencies_are_those_of_streams_and_fit_into_the_duration(month: list[Exchange]) -> None:
    timed = [e.closed for e in month if e.closed and e.closed.ttft_us is not None]
    assert timed
    for closed in timed:
        tokens = closed.usage.output.value or 0
        assert closed.duration_us == (closed.ttft_us or 0) + max(0, tokens - 1) * (closed.itl_us or 0)


def test_every_request_says_that_it_is_synthetic(month: list[Exchange]) -> None:
    assert all(exchange.opened.tags == TAGS for exchange in month)


def test_usage_goes_to_every_key_with_its_project(month: list[Exchange]) -> None:
    used = {(exchange.opened.key_id, exchange.opened.project_id) for exchange in month}
    assert used == set(PARTIES[0].keys)


def test_a_day_begins_at_midnight_utc() -> None:
    assert day_start(MONDAY_US) == day_start(MONDAY_US + DAY_US - 1) == MONDAY_US
