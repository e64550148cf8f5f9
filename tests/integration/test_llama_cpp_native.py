"""The real llama.cpp in its own dialect: what our meters count is what its counters moved, and clients see what it alone sends."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest

from billing.gateway.relay import StreamRelay
from billing.infra.golden.model import GOLDEN, model_path
from billing.infra.golden.runner import PROMPT_TOKENS, PROMPT_TOKENS_CACHED, TOKENS_PREDICTED, LlamaServer
from billing.tokens.call import Asked
from billing.tokens.dialects.llama_cpp import NativeCall
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import LLAMA_CPP
from billing.tokens.prometheus import parse_counters
from billing.tokens.usage import TokenUsage
from tests.native_kit import data_in

DEADLINE_S = 10.0
IDLE = "llamacpp:requests_processing 0\n"
FILL_IN = {"fim_pre_token_id": 3, "fim_suf_token_id": 4, "fim_mid_token_id": 5}
"""Any tokens serve as marks of a text with a gap: the model says what it always says."""
TIMES = re.compile(
    rb'"(?:timings/)?(?:prompt|predicted)_(?:ms|per_token_ms|per_second)":[-\d.e+]+|"id_slot":\d+|"time_ms":\d+'
)
"""What differs between two replies to the same request."""

REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "Hello"},
    "limited": {"prompt": "Hello", "n_predict": 7},
    "nothing wanted": {"prompt": "Hello", "n_predict": 0},
    "fields": {"prompt": "Hello", "n_predict": 3, "response_fields": ["content"]},
    "nested fields": {"prompt": "Hello", "n_predict": 3, "response_fields": ["timings/predicted_n", "generation_settings/top_k", "none/x", "stop"]},
    "settings": {"prompt": "Hello", "n_predict": 2, "response_fields": ["generation_settings", "generation_settings/timings_per_token", "generation_settings/stream"]},
    "no list of fields": {"prompt": "Hello", "n_predict": 2, "response_fields": ["content", 1]},
    "timings": {"prompt": "Hello", "n_predict": 3, "timings_per_token": True},
    "probabilities": {"prompt": "Hello", "n_predict": 3, "n_probs": 2},
    "probabilities in fields": {"prompt": "Hello", "n_predict": 3, "n_probs": 2, "response_fields": ["completion_probabilities", "content"]},
    "tokens": {"prompt": "Hello", "n_predict": 3, "return_tokens": True, "return_progress": True},
    "a prompt of tokens": {"prompt": [42, 71, 310, 81], "n_predict": 3},
    "tokens and text": {"prompt": ["Hello", 71, " there"], "n_predict": 3},
    "two prompts": {"prompt": ["What does a token cost?", "Hello"], "n_predict": 5},
    "two prompts, fields": {"prompt": ["What does a token cost?", "Hello"], "n_predict": 5, "response_fields": ["content", "index"]},
    "two choices": {"prompt": "Why is my invoice higher?", "n_predict": 5, "n_cmpl": 2},
    "two choices of two prompts": {"prompt": ["Why is it so?", "And now?"], "n": 2, "response_fields": ["content"]},
    "empty": {"prompt": ["", "Hello"], "n_predict": 2, "response_fields": ["content", "stop_type"]},
}  # fmt: skip


def with_marks(source: Path, target: Path) -> Path:
    """The same model, with tokens that mark a gap to fill in."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            kind, element = field.types[0], field.types[-1]
            writer.add_key_value(
                field.name, field.contents(), kind, element if kind is gguf.GGUFValueType.ARRAY else None
            )
    for name, token in FILL_IN.items():
        writer.add_uint32(f"tokenizer.ggml.{name}", token)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    folder = tmp_path_factory.mktemp("native")
    model = with_marks(model_path(folder, GOLDEN), folder / "marked.gguf")
    running = LlamaServer.start(model, "golden", log_path=folder / "server.log")
    yield running
    running.stop()


def call_of(members: dict[str, Any], path: str = "/completion") -> Any:
    return PATHS[path].parse(Asked(PATHS[path].operation, path, json.dumps(members).encode()))


def post(server: LlamaServer, path: str, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    answer = reply.read()
    connection.close()
    assert reply.status == 200, answer
    return answer


def counters(server: LlamaServer) -> tuple[int, int, int]:
    """Input, input from the cache, and output, once the engine has nothing more to count."""
    deadline, before = time.monotonic() + DEADLINE_S, (-1, -1, -1)
    while time.monotonic() < deadline:
        page = server.metrics()
        known = parse_counters(page)
        computed, cached = int(known[PROMPT_TOKENS]), int(known[PROMPT_TOKENS_CACHED])
        now = (computed + cached, cached, int(known[TOKENS_PREDICTED]))
        if now == before and IDLE in page:
            return now
        before = now
        time.sleep(0.03)
    raise AssertionError("the engine did not come to rest")


def moved(server: LlamaServer, before: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(now - then for now, then in zip(counters(server), before, strict=True))


def known(usage: TokenUsage) -> tuple[int | None, ...]:
    return (usage.input.value, usage.cached_input.value, usage.output.value)


def ask(server: LlamaServer, call: NativeCall, *, stream: bool) -> bytes:
    return post(server, call.path, call.upstream_body(LLAMA_CPP, "golden", stream=stream))


def alike(body: bytes) -> bytes:
    """A reply without what differs between two of them."""
    return TIMES.sub(b"", body)


def in_any_order(body: bytes) -> list[bytes]:
    """The events of several answers come as they are made, mostly after the event `null`, as the engine's timing wills."""
    return sorted(set(alike(body).split(b"\n\n")) - {b"data: null"})


@pytest.mark.parametrize("members", REQUESTS.values(), ids=REQUESTS)
def test_whole_replies_are_counted_as_the_engine_counts_them(
    server: LlamaServer, members: dict[str, Any]
) -> None:
    before, call = counters(server), call_of(members)
    usage = call.reply_meter(LLAMA_CPP, ask(server, call, stream=False)).usage()
    took, cached, made = moved(server, before)
    assert known(usage) == (took, None if call.prompts > 1 else cached, made)
    assert usage.input.provenance == usage.output.provenance == "reported"


@pytest.mark.parametrize("members", REQUESTS.values(), ids=REQUESTS)
def test_streams_are_counted_as_the_engine_counts_them(server: LlamaServer, members: dict[str, Any]) -> None:
    before, call = counters(server), call_of(members | {"stream": True})
    relay = StreamRelay(call.stream_meter(LLAMA_CPP))
    relay.feed(ask(server, call, stream=True), 0)
    assert (relay.meter.done, relay.meter.response_model in {"golden", None}) == (True, True)
    assert known(relay.meter.usage()) == moved(server, before)


@pytest.mark.parametrize("members", REQUESTS.values(), ids=REQUESTS)
def test_a_client_sees_what_the_engine_alone_would_have_sent(
    server: LlamaServer, members: dict[str, Any]
) -> None:
    # Without the cache two equal requests have equal replies.
    call = call_of(members | {"cache_prompt": False})
    alone, through = post(server, "/completion", call.body), ask(server, call, stream=False)
    if members["prompt"] != REQUESTS["empty"]["prompt"]:
        assert alike(call.reply_meter(LLAMA_CPP, through).stripped(through)) == alike(alone)
    asked = call_of(members | {"cache_prompt": False, "stream": True})
    relay = StreamRelay(asked.stream_meter(LLAMA_CPP))
    seen = relay.feed(ask(server, asked, stream=True), 0) + relay.terminal
    assert in_any_order(seen) == in_any_order(post(server, "/completion", asked.body))


@pytest.mark.parametrize("members", REQUESTS.values(), ids=REQUESTS)
def test_a_stream_is_assembled_into_what_the_engine_sends_whole(
    server: LlamaServer, members: dict[str, Any]
) -> None:
    call = call_of(members | {"cache_prompt": False})
    assembler = call.assembler(LLAMA_CPP, always=True)
    for data in data_in(ask(server, call, stream=True)):
        assembler.feed(data)
    assert alike(assembler.body()) == alike(post(server, "/completion", call.body))


@pytest.mark.parametrize("stream", [False, True])
def test_infills_are_counted_as_the_engine_counts_them(server: LlamaServer, stream: bool) -> None:
    members = {
        "input_prefix": "def f(a):",
        "input_suffix": "\n",
        "n_predict": 4,
        "stream": stream,
        "response_fields": ["content"],
    }
    before, call = counters(server), call_of(members, "/infill")
    body = ask(server, call, stream=stream)
    if stream:
        relay = StreamRelay(call.stream_meter(LLAMA_CPP))
        relay.feed(body, 0)
        usage = relay.meter.usage()
        assert relay.terminal == b'data: {"content":""}\n\n'
    else:
        usage = call.reply_meter(LLAMA_CPP, body).usage()
    assert known(usage) == moved(server, before)
    assert usage.output.value == 4


def test_a_stream_that_is_broken_off_anywhere_is_counted_to_its_last_event(server: LlamaServer) -> None:
    call = call_of({"prompt": "Hello", "stream": True})
    events = data_in(ask(server, call, stream=True))
    assert len(events) == GOLDEN.completion_tokens + 1
    for number in (1, 20, 52):
        meter = call.stream_meter(LLAMA_CPP)
        for data in events[:number]:
            meter.see(data, 0)
        assert (known(meter.usage())[0::2], meter.usage().output.provenance) == ((4, number), "running")


def test_tokenizing_moves_no_counter(server: LlamaServer) -> None:
    before = counters(server)
    tokens = post(server, "/tokenize", b'{"content":"Hello there"}')
    text = post(server, "/detokenize", tokens)
    assert json.loads(text) == {"content": "Hello there"}
    assert moved(server, before) == (0, 0, 0)


@pytest.mark.parametrize(
    "body", [b'{"prompt":[]}', b'{"prompt":5}', b'{"prompt":"x","stream":1}', b'{"prompt":"x","n":0}', b"{}"]
)
def test_what_we_refuse_the_engine_refuses_too(server: LlamaServer, body: bytes) -> None:
    with pytest.raises(AssertionError, match="invalid_request_error"):
        post(server, "/completion", body)
