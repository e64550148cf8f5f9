"""Reasoning tokens by the engine's own counter: the counter at the last reasoning delta − the one before the first."""

import pytest

from billing.tokens.reasoning import METHOD, ReasoningCounter
from billing.tokens.usage import UNKNOWN, Count, Provenance

NONE_SEEN = Count(0, Provenance.RUNNING, "no reasoning text in the stream")


def counted(*events: tuple[int | None, bool]) -> Count:
    counter = ReasoningCounter()
    for number, reasoning in events:
        counter.see(number, reasoning=reasoning)
    return counter.count()


def running(value: int) -> Count:
    return Count(value, Provenance.RUNNING, METHOD)


CASES = {
    "nothing came": ((), UNKNOWN),
    "an answer without counters": (((None, False), (None, False)), UNKNOWN),
    "an answer with counters": (((1, False), (2, False)), NONE_SEEN),
    "reasoning without counters": (((None, True), (None, True), (None, False)), UNKNOWN),
    "the engine wrote the opening tag: it is not reasoning": (
        ((1, False), (2, True), (3, True), (4, False)),
        running(2),
    ),
    "the template opened the tag": (((1, True), (2, True), (3, False)), running(2)),
    "several tokens an event": (((3, False), (8, True), (12, True), (20, False)), running(9)),
    "still reasoning": (((1, False), (2, True)), running(1)),
    "the golden answer: tag, 20 reasoning tokens, tag, 30 answer tokens, end": (
        ((1, False), *((n, True) for n in range(2, 22)), *((n, False) for n in range(23, 53)), (53, False)),
        running(20),
    ),
    "events without a counter among them": (
        ((1, False), (None, True), (3, True), (None, False), (5, False)),
        running(2),
    ),
    "a counter that falls is not believed": (((1, False), (5, True), (2, True), (6, False)), running(4)),
    "a counter that comes only after the reasoning says nothing about it": (
        ((None, True), (40, False)),
        UNKNOWN,
    ),
    "reasoning comes back after an answer: both, and what lies between": (
        ((1, True), (2, False), (3, True), (4, False)),
        running(3),
    ),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_reasoning_tokens(events: tuple[tuple[int | None, bool], ...], expected: Count) -> None:
    assert counted(*events) == expected


def test_seen_tells_whether_reasoning_text_came() -> None:
    counter = ReasoningCounter()
    counter.see(1, reasoning=False)
    assert not counter.seen
    counter.see(2, reasoning=True)
    assert counter.seen
    assert repr(counter) == "<ReasoningCounter before=1 last=2 counter=2>"


def test_what_began_inside_is_counted_from_the_first_token() -> None:
    counter = ReasoningCounter()
    for tokens in (1, 2, 3):
        counter.see(tokens, reasoning=False)
    counter.reclaim()
    counter.see(4, reasoning=False)
    counter.reclaim()
    assert counter.count().value == 3
