"""The outcome of a stream (P1), by what was seen of it."""

import pytest

from billing.gateway.ending import refusal, stream_outcome
from billing.tokens.engines import VLLM
from billing.tokens.operation import Operation
from billing.tokens.usage import Outcome
from tests.call_kit import text_call

FINISH = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
TOKEN = b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}'
ERROR = b'{"error":{"message":"out of memory"}}'
DONE = b"[DONE]"


@pytest.mark.parametrize(
    ("seen", "gone", "complete", "outcome"),
    [
        ([TOKEN, FINISH, DONE], False, True, Outcome.COMPLETE),
        ([TOKEN, FINISH, DONE], False, False, Outcome.COMPLETE),
        ([TOKEN, FINISH], False, True, Outcome.COMPLETE),
        ([TOKEN, FINISH], False, False, Outcome.TRUNCATED),
        ([TOKEN], False, True, Outcome.TRUNCATED),
        ([], False, True, Outcome.TRUNCATED),
        ([TOKEN, ERROR], False, True, Outcome.UPSTREAM_ERROR),
        ([TOKEN, ERROR, DONE], False, True, Outcome.UPSTREAM_ERROR),
        ([TOKEN, FINISH, DONE], True, True, Outcome.CLIENT_CLOSED),
        ([TOKEN, ERROR], True, True, Outcome.CLIENT_CLOSED),
    ],
)
def test_the_leaving_counts_first_then_the_engines_error_then_a_missing_end(
    seen: list[bytes], gone: bool, complete: bool, outcome: Outcome
) -> None:
    meter = text_call(Operation.CHAT, b'{"model":"m","messages":[],"stream":true}').stream_meter(VLLM)
    for number, data in enumerate(seen):
        meter.see(data, number)
    assert stream_outcome(meter, gone=gone, complete=complete) is outcome


@pytest.mark.parametrize("status", [400, 413, 422, 429])
def test_what_is_about_the_callers_own_request_is_told_in_the_engines_words(status: int) -> None:
    ending, told = refusal(status)
    assert (ending.status, told) == (status, None)


@pytest.mark.parametrize(("status", "kind"), [(301, "upstream_refused"), (401, "upstream_refused"), (404, "upstream_refused"),
                                              (500, "upstream_refused"), (503, "upstream_overloaded"), (529, "upstream_overloaded")])  # fmt: skip
def test_what_is_the_operators_business_is_told_in_ours_and_counts_nothing(status: int, kind: str) -> None:
    ending, told = refusal(status)
    assert told is not None
    assert (told.kind, ending.error) == (kind, kind)
    assert (ending.usage.input.value, ending.usage.output.value) == (0, 0)
    assert str(status) in ending.usage.output.method
