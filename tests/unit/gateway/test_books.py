"""What is written of a request, when, and what its limits are told."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from billing.gateway.books import Books
from billing.gateway.ending import Ending
from billing.gateway.ports import Request
from billing.gateway.work import Work, decide
from billing.limits.expectation import Expectation
from billing.limits.need import NONE
from billing.limits.permit import Permit
from billing.settings import Durability, GatewaySettings
from billing.tokens.usage import Count, Outcome, Provenance, TokenUsage
from tests.call_kit import CHAT
from tests.gateway.fake_client import FakeClock, Journal
from tests.gateway.fakes import (
    CALLER,
    KEY,
    NOW_US,
    TENANT_ID,
    USAGE_ID,
    FakeAdmission,
    FakeDirectory,
    FakeSpool,
    snapshot,
)

COMPLETE = Ending(Outcome.COMPLETE, 200, TokenUsage())
TIMED = (
    b'{"choices":[{"index":0,"delta":{"content":"a"}}],"timings":{"cache_n":3,"prompt_n":1,"predicted_n":%d}}'
)


class Desk:
    """Books among fakes, with one request."""

    def __init__(self, durability: Durability = Durability.BEFORE_REPLY, **spool: Any) -> None:
        self.journal, self.clock, self.counts = Journal(), FakeClock(), Counter[str]()
        self.expectation = Expectation(1_024, 4)
        self.spool = FakeSpool(self.journal, **{"full": (), "unsynced": None} | spool)
        self.books = Books(
            spool=self.spool,
            admission=FakeAdmission(self.journal, []),
            expectation=self.expectation,
            clock=self.clock,
            settings=GatewaySettings(durability=durability),
            counts=self.counts,
        )
        body = b'{"model":"tiny","messages":[],"stream":true}'
        request = Request(USAGE_ID, NOW_US, "POST", "/v1/chat/completions", {}, body)
        work = decide(FakeDirectory({KEY: CALLER}, snapshot(), ()), request, CALLER, CHAT)
        permit = Permit(USAGE_ID, TENANT_ID, NONE, (), [], is_local=False)
        self.work: Work = msgspec.structs.replace(work, permit=permit)

    def says(self, tokens: int, at_us: int) -> None:
        """The engine sends one more event."""
        self.work.meter.see(TIMED % tokens, at_us)


async def test_what_comes_to_its_end_tells_what_the_next_ones_need() -> None:
    desk = Desk()
    for outcome in (Outcome.CLIENT_CLOSED, Outcome.COMPLETE):
        usage = TokenUsage(Count(5, Provenance.REPORTED, "m"), output=Count(9, Provenance.ESTIMATED, "m"))
        desk.books.open(desk.work)
        await desk.books.close(desk.work, Ending(outcome, 200, usage))
    assert repr(desk.expectation) == "<Expectation of 0 tenants' models, 1 models>"


def test_a_request_is_open_from_its_entry_to_its_close() -> None:
    desk = Desk()
    assert not desk.books.is_open(desk.work)
    desk.books.open(desk.work)
    assert desk.books.is_open(desk.work)
    assert repr(desk.books) == "<Books 1 open>"


async def test_its_close_says_how_long_the_gateway_took_before_the_engine() -> None:
    desk = Desk()
    desk.books.open(desk.work)
    desk.clock.now_us = NOW_US + 410
    desk.books.sent(desk.work)
    desk.clock.now_us = NOW_US + 9_000
    assert await desk.books.close(desk.work, COMPLETE) is None
    [closed] = desk.spool.closed
    assert (closed.overhead_us, closed.duration_us) == (410, 9_000)
    assert not desk.books.is_open(desk.work)
    assert desk.counts == {"complete": 1}


async def test_a_request_that_never_left_for_an_engine_has_no_such_time() -> None:
    desk = Desk()
    desk.books.open(desk.work)
    await desk.books.close(desk.work, COMPLETE)
    assert desk.spool.closed[0].overhead_us is None


def test_progress_is_due_once_a_second_and_charged_as_the_engine_counts() -> None:
    desk = Desk()
    desk.books.open(desk.work)
    second = 1_000_000
    assert not desk.books.progress(desk.work, desk.work.meter, NOW_US)  # nothing generated yet
    desk.says(1, NOW_US + 5)
    written_us = desk.books.progress(desk.work, desk.work.meter, NOW_US + 10)
    assert written_us == range(NOW_US + 10, NOW_US + 10 + second)
    desk.says(7, NOW_US + second)
    desk.books.progress(desk.work, desk.work.meter, written_us.stop)
    assert desk.journal.values("progressed") == [4 + 7]  # the first token is within what was reserved


def test_a_clock_that_was_set_back_makes_the_next_entry_due() -> None:
    desk = Desk()
    desk.books.open(desk.work)
    desk.says(1, NOW_US)
    assert NOW_US - 1 not in desk.books.progress(desk.work, desk.work.meter, NOW_US)


@pytest.mark.parametrize("durability", Durability)
async def test_a_reply_waits_for_the_disk_only_where_that_is_promised(durability: Durability) -> None:
    desk = Desk(durability)
    desk.books.open(desk.work)
    await desk.books.close(desk.work, COMPLETE)
    assert ("synced" in desk.journal.names) == (durability is Durability.BEFORE_REPLY)


async def test_a_log_that_is_full_is_told_and_the_limits_are_settled() -> None:
    desk = Desk(full=("close",))
    desk.books.open(desk.work)
    fault = await desk.books.close(desk.work, COMPLETE)
    assert fault is not None
    assert fault.kind == "spool_full"
    assert desk.counts["unrecorded_spool_full"] == 1
    assert desk.journal.values("settle") == [None]
