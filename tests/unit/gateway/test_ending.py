"""The outcome of a stream (P1), by what was seen of it."""

import pytest

from billing.gateway.ending import stream_outcome
from billing.tokens.dialects.openai import Operation, parse
from billing.tokens.engines import VLLM
from billing.tokens.meter import StreamMeter
from billing.tokens.usage import Outcome

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
    meter = StreamMeter(VLLM, parse(Operation.CHAT, b'{"model":"m","messages":[],"stream":true}'))
    for number, data in enumerate(seen):
        meter.see(data, number)
    assert stream_outcome(meter, gone=gone, complete=complete) is outcome
