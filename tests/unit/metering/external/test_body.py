"""What stands in a body."""

import pytest

from billing.errors import InvalidInput, TooLarge
from billing.metering.external.body import BATCH_TYPE, EVENTS_MAX, PLAIN_TYPE, SINGLE_TYPE, Body, read_body


def test_one_event_or_an_array_of_them() -> None:
    assert (
        read_body(b'{"id": 1}', SINGLE_TYPE) == read_body(b'{"id": 1}') == Body([{"id": 1}], is_batch=False)
    )
    assert (
        read_body(b"[1, {}]", BATCH_TYPE) == read_body(b"[1, {}]", PLAIN_TYPE) == Body([1, {}], is_batch=True)
    )
    assert read_body(b"[]", BATCH_TYPE).values == []


@pytest.mark.parametrize(
    ("body", "media_type", "expected"),
    [
        (b"[]", SINGLE_TYPE, "the body is an array of events: send it as application/cloudevents-batch"),
        (
            b"{}",
            BATCH_TYPE,
            r"the body is no array of events: send a single one as application/cloudevents\+json",
        ),
        (b"7", PLAIN_TYPE, "the body must be one event, which is an object, or an array of events"),
        (b"", PLAIN_TYPE, "cannot be read as JSON"),
        (b"[{]", PLAIN_TYPE, "cannot be read as JSON"),
        (b"1e400", PLAIN_TYPE, "cannot be read as JSON"),
        (b'"\xff"', PLAIN_TYPE, "JSON|UTF-8"),
        (b"[" * 100_000, PLAIN_TYPE, "nested too deep"),
        (b"{}", "text/plain", r"send application/cloudevents\+json, .* got 'text/plain'"),
        (b"{}", "", "got ''"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(body: bytes, media_type: str, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        read_body(body, media_type)


def test_a_batch_has_a_limit() -> None:
    assert len(read_body(b"[" + b"{}," * (EVENTS_MAX - 1) + b"{}]").values) == EVENTS_MAX
    with pytest.raises(TooLarge, match="at most 1,000 events, got 1,001"):
        read_body(b"[" + b"{}," * EVENTS_MAX + b"{}]")
    with pytest.raises(TooLarge):
        read_body(b"[{}, {}]", events_max=1)
