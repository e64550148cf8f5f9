"""The last event of a stream holds the reply that the engine would have sent whole."""

import msgspec
import pytest

from billing.tokens.dialects.openai_responses_assembler import ResponsesAssembler


def assembled(*events: bytes) -> bytes:
    assembler = ResponsesAssembler()
    for event in events:
        assembler.feed(event)
    assert assembler.size() >= len(assembler.body())
    return assembler.body()


REPLY = b'{ "id":"r1", "output":[{"type":"function_call","arguments":"{\\"a\\":1.0}"}],"usage":{"input_tokens":3}}'


@pytest.mark.parametrize("kind", [b"completed", b"incomplete", b"failed"])
def test_the_reply_keeps_its_bytes(kind: bytes) -> None:
    last = b'{"type":"response.%b","response":%b,"timings":{"cache_n":1}}' % (kind, REPLY)
    assert (
        assembled(b'{"type":"response.created","response":{"id":"r1"}}', b"null", b"[DONE]", b"\xff", last)
        == REPLY
    )


def test_an_error_in_its_own_shape() -> None:
    assert assembled(b'{"error":{"code":500,"message":"no"}}') == b'{"error":{"code":500,"message":"no"}}'
    flat = assembled(
        b'{"type":"error","code":"server_error","message":"no","param":null,"sequence_number":3}'
    )
    assert msgspec.json.decode(flat) == {
        "error": {"message": "no", "type": None, "param": None, "code": "server_error"}
    }


def test_a_stream_without_its_end_is_no_reply() -> None:
    assert (
        assembled(b'{"type":"response.created","response":{"id":"r1"}}', b'{"type":"response.completed"}')
        == b""
    )
    assert repr(ResponsesAssembler()) == "<ResponsesAssembler 0 B>"
