"""Some replies hold no counts: their usage is known beforehand, or nobody knows it."""

from billing.tokens.fixed import NOTHING_GENERATED, FixedReplyMeter, UnstreamedMeter
from billing.tokens.meter import Edit
from billing.tokens.usage import TokenUsage


def test_a_fixed_usage_is_what_it_is() -> None:
    meter = FixedReplyMeter(TokenUsage(output=NOTHING_GENERATED))
    assert meter.usage().output.value == 0
    assert meter.usage().input.value is None
    assert (meter.response_id, meter.response_model, meter.reasoning_text()) == (None, None, None)
    assert meter.stripped(b"[1]") == b"[1]"


def test_a_stream_that_there_is_not_passes_and_says_nothing() -> None:
    meter = UnstreamedMeter()
    assert meter.see(b'{"usage":{"total_tokens":5}}', 0) is Edit.KEEP
    assert meter.usage() == TokenUsage()
    assert not meter.done
