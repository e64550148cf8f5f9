"""What a sender is told."""

from billing.errors import InvalidInput
from billing.metering.external.verdict import (
    ECHO_LENGTH_MAX,
    REASON_LENGTH_MAX,
    Verdict,
    Word,
    counted,
    rejected,
)


def test_a_rejection_names_the_event_as_far_as_it_can_be_read() -> None:
    fault = InvalidInput("[3].time: missing", "[3].time")
    assert rejected(fault, {"source": "/a", "id": 7}) == Verdict(
        Word.REJECTED, "/a", None, None, "[3].time: missing", "[3].time"
    )
    assert rejected(fault, "nothing") == Verdict(
        Word.REJECTED, None, None, None, "[3].time: missing", "[3].time"
    )


def test_what_was_sent_is_repeated_in_short_only() -> None:
    long = "x" * 10_000
    found = rejected(InvalidInput(long, long), {"source": long, "id": long})
    assert found.source == found.id == "x" * ECHO_LENGTH_MAX
    assert found.reason == found.param == "x" * REASON_LENGTH_MAX


def test_every_word_is_counted() -> None:
    assert counted([Verdict(Word.ACCEPTED), Verdict(Word.ACCEPTED), Verdict(Word.REJECTED)]) == {
        "accepted": 2, "duplicate": 0, "conflict": 0, "rejected": 1,
    }  # fmt: skip
