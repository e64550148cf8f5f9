"""What every meter of streams does: it tells when text came, and how long tokens took, by the caller's clock alone."""

import pytest

from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.tags import Tags
from billing.tokens.usage import UNKNOWN, Count, Provenance, TokenUsage


class Counted(StreamMeter):
    """A stream of so many tokens."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: int | None) -> None:
        super().__init__()
        self._tokens = tokens

    def see(self, data: bytes, now_us: int) -> Edit:
        self.spoke(now_us, answer=data == b"answer")
        return Edit.KEEP

    def usage(self) -> TokenUsage:
        known = Count(self._tokens, Provenance.REPORTED, "usage") if self._tokens is not None else Count()
        return TokenUsage(output=known)


class Whole(ReplyMeter):
    """A reply that says nothing."""

    response_id = response_model = None

    def usage(self) -> TokenUsage:
        return TokenUsage()


def spoken(tokens: int | None, *events: tuple[bytes, int]) -> Counted:
    meter = Counted(tokens)
    for data, at_us in events:
        meter.see(data, at_us)
    return meter


THOUGHT, ANSWER = b"thought", b"answer"


def test_the_first_token_and_the_first_of_the_answer_are_told_apart() -> None:
    meter = spoken(4, (THOUGHT, 100), (THOUGHT, 130), (ANSWER, 190), (ANSWER, 200))
    assert (meter.first_token_us, meter.first_answer_us, meter.last_token_us) == (100, 190, 200)
    assert meter.gap_max_us == 60
    assert meter.itl_us() == (200 - 100) // 3


def test_an_answer_without_reasoning_begins_with_the_first_token() -> None:
    meter = spoken(1, (ANSWER, 70))
    assert (meter.first_token_us, meter.first_answer_us, meter.gap_max_us) == (70, 70, 0)


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_there_is_no_time_per_token_below_two(tokens: int | None) -> None:
    assert spoken(tokens, (ANSWER, 1), (ANSWER, 9)).itl_us() is None


def test_a_stream_that_said_nothing_has_no_times() -> None:
    meter = Counted(5)
    assert (meter.first_token_us, meter.first_answer_us, meter.last_token_us, meter.itl_us()) == (None,) * 4


def test_the_least_that_a_meter_does() -> None:
    assert Counted(1).strip(b"as it is") == b"as it is"
    assert repr(Counted(3)) == "<Counted running output=3 reported (usage)>"
    stream = Counted(1)
    stream.watch_reasoning(keeps=True, tags=None)
    stream.forget()
    assert (stream.reasoning_text(), stream.reasoning_estimate()) == (None, UNKNOWN)
    whole = Whole()
    whole.split_reasoning(Tags("<think>", "</think>"))
    assert whole.reasoning_estimate() == UNKNOWN
    whole.heard([(b"x-prompt-tokens", b"5")])
    assert (whole.stripped(b"body"), whole.reasoning_text()) == (b"body", None)
    assert repr(whole) == "<Whole unknown>"
