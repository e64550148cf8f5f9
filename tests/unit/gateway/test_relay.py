"""A stream on its way to the client: each event in its place, edited least, the end mark held back for the record."""

import msgspec
import pytest

from billing.errors import UpstreamBroken
from billing.gateway.relay import Gathering, LineRelay, StreamRelay, relay_of
from billing.tokens.assembler import Assembler
from billing.tokens.call import Asked
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import LLAMA_CPP, OLLAMA, VLLM, Engine
from billing.tokens.meter import Edit, StreamMeter
from billing.tokens.operation import Framing, Operation
from billing.tokens.sse import EVENT_BYTES_MAX
from billing.tokens.usage import TokenUsage
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


def ollama(**members: object) -> LineRelay:
    asked = Asked(
        Operation.CHAT, "/api/chat", msgspec.json.encode({"model": "tiny", "messages": [], **members})
    )
    made = relay_of(Framing.NDJSON, PATHS["/api/chat"].parse(asked).stream_meter(OLLAMA))
    assert isinstance(made, LineRelay)
    return made


SAID = b'{"model":"tiny","message":{"role":"assistant","content":"a"},"done":false}\n'
LAST = b'{"model":"tiny","message":{"role":"assistant","content":""},"done":true,"prompt_eval_count":4,"eval_count":2}\n'


def test_lines_pass_as_they_are_and_the_last_waits_for_the_record() -> None:
    lines = ollama()
    assert lines.feed(SAID[:30], 0) == b""
    assert lines.feed(SAID[30:] + SAID + LAST, 5) == SAID + SAID
    assert lines.terminal == LAST
    assert (lines.meter.usage().input.value, lines.meter.usage().output.value) == (4, 2)
    assert lines.feed(b"{}\n", 6) == b""
    assert lines.terminal == LAST + b"{}\n"


def test_a_line_without_its_end_is_counted_and_leaves_no_room_for_one_of_ours() -> None:
    lines = ollama()
    lines.feed(SAID + SAID.rstrip(b"\n"), 0)
    assert lines.finish(1) == SAID.rstrip(b"\n")
    assert not lines.at_boundary
    whole = ollama()
    whole.feed(SAID, 0)
    assert (whole.finish(1), whole.at_boundary) == (b"", True)


def test_empty_lines_and_what_is_no_json_pass() -> None:
    lines = ollama()
    assert lines.feed(b"\n\xff\xfe\n\r\n", 0) == b"\n\xff\xfe\n\r\n"


class Silent(StreamMeter):
    """Counts nothing."""

    __slots__ = ()

    def see(self, data: bytes, now_us: int) -> Edit:
        raise AssertionError("bytes that hold no events are not looked at")

    def usage(self) -> TokenUsage:
        return TokenUsage()


def test_of_bytes_without_events_the_last_piece_waits_for_the_record() -> None:
    audio = relay_of(Framing.BINARY, Silent())
    assert [audio.feed(piece, at) for at, piece in enumerate((b"RIFF", b"\x00\x01", b"data: x\n\n"))] == [
        b"", b"RIFF", b"\x00\x01",
    ]  # fmt: skip
    assert (audio.terminal, audio.meter.finished) == (b"", True)
    assert (audio.finish(9), audio.terminal) == (b"", b"data: x\n\n")
    assert (audio.meter.first_token_us, audio.at_boundary) == (0, False)


class Kept(Assembler):
    """Keeps the data of events."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.data.append(data)

    def size(self) -> int:
        return sum(map(len, self.data))

    def status(self) -> int:
        return 200

    whole = True

    def body(self) -> bytes:
        return b"".join(self.data)


def test_a_stream_that_is_gathered_is_counted_and_kept_up_to_its_end_mark() -> None:
    meter, kept = relay(n=1).meter, Kept()
    gathering = Gathering(meter, kept)
    held = gathering.feed(b": ping\n\n" + TIMED + USED[:20], 0)
    assert held == kept.size() + 20
    gathering.feed(USED[20:] + DONE + TIMED, 1)
    gathering.finish(2)
    assert kept.data == [TIMED[6:-2], USED[6:-2], b"[DONE]"]
    assert (meter.done, meter.usage().output.value) == (True, 2)


def test_an_event_that_is_too_long_is_not_gathered_by_halves() -> None:
    gathering = Gathering(relay().meter, Kept())
    with pytest.raises(UpstreamBroken, match="too long"):
        gathering.feed(b"data: " + b"x" * (EVENT_BYTES_MAX + 1), 0)
