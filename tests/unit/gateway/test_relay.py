"""A stream on its way to the client: each event in its place, edited least, the end mark held back for the record."""

import msgspec
import pytest

from billing.gateway.relay import StreamRelay
from billing.tokens.engines import LLAMA_CPP, VLLM, Engine
from billing.tokens.operation import Operation
from billing.tokens.sse import EVENT_BYTES_MAX
from tests.call_kit import text_call

TIMED = (
    b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"timings":{"prompt_n":4,"predicted_n":1}}\n\n'
)
BARE = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
USED = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def relay(engine: Engine = LLAMA_CPP, **members: object) -> StreamRelay:
    body = msgspec.json.encode({"model": "tiny", "messages": [], "stream": True, **members})
    return StreamRelay(text_call(Operation.CHAT, body).stream_meter(engine))


def test_what_was_injected_never_reaches_the_client() -> None:
    stream = relay()
    assert stream.feed(TIMED + USED + DONE, 0) == BARE
    assert stream.terminal == DONE
    assert stream.meter.usage().output.value == 2


def test_the_end_mark_and_all_behind_it_is_held_back() -> None:
    stream = relay()
    assert stream.feed(BARE + DONE + b": late\n\n", 0) == BARE
    assert stream.feed(b"data: later\n\n", 0) == b""
    assert stream.finish(0) == b""
    assert stream.terminal == DONE + b": late\n\ndata: later\n\n"


def test_an_end_mark_without_its_blank_line_is_held_back_too() -> None:
    stream = relay()
    assert stream.feed(BARE + b"data: [DONE]", 0) == BARE
    assert stream.finish(0) == b""
    assert (stream.terminal, stream.meter.done) == (b"data: [DONE]", True)


def test_part_of_an_event_waits_for_the_rest() -> None:
    stream = relay()
    assert stream.feed(TIMED[:50], 0) == b""
    assert "tail=50 B" in repr(stream)
    assert stream.feed(TIMED[50:], 0) == BARE


def test_at_the_end_of_the_stream_part_of_an_event_is_counted_and_passed_on() -> None:
    stream = relay()
    stream.feed(TIMED.rstrip(b"\n"), 0)
    assert stream.finish(0) == BARE
    assert stream.meter.usage().output.value == 1


UNTOUCHED = {
    "a comment": b": ping\n\n", "an empty comment": b":\n\n", "an event without data": b"event: ping\n\n", "null": b"data: null\n\n",
    "no JSON": b"data: hello\n\n", "bytes": b"data: \xff\xfe\n\n", "blank lines": b"\n\n", "another field": b"foo: bar\n\n",
    "an error": b'data: {"error":{"message":"no"}}\n\n', "white space in the JSON": b'data: { "choices" : [ ] }\n\n',
    "no space": b'data:{"choices":[]}\n\n', "CRLF": b'event: x\r\ndata: {"choices":[]}\r\n\r\n',
    "half an object whose id is a number": b'data: {"id":5,"x":\n\n', "content that is no UTF-8": b'data: {"id":"\xc3"}\n\n',
    "a list that breaks off": b"data: [1\n\n", "nearly the end mark": b"data: [DONE] \n\n",
}  # fmt: skip


@pytest.mark.parametrize("engine", [LLAMA_CPP, VLLM], ids=lambda engine: engine.name)
@pytest.mark.parametrize("event", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_needs_no_edit_passes_byte_for_byte(event: bytes, engine: Engine) -> None:
    stream = relay(engine)
    assert stream.feed(event + BARE, 0) + stream.finish(0) == event + BARE
    assert stream.terminal == b""


def test_an_edited_event_keeps_its_other_lines() -> None:
    stream = relay()
    assert stream.feed(b": c\nid: 7\n" + TIMED, 0) == b": c\nid: 7\n" + BARE


def test_a_byte_order_mark_hides_nothing_from_the_meter() -> None:
    stream = relay()
    assert b"timings" not in stream.feed(b"\xef\xbb\xbf" + TIMED, 0)
    assert stream.meter.usage().output.value == 1


def test_after_an_event_above_the_largest_size_the_stream_is_still_metered_edited_and_held_back() -> None:
    stream = relay()
    long = b"data: " + b"x" * EVENT_BYTES_MAX
    assert stream.feed(long, 0) == long
    assert stream.feed(b"\n\n" + TIMED + USED + DONE, 0) == b"\n\n" + BARE
    assert stream.terminal == DONE
    assert stream.meter.usage().output.value == 2
