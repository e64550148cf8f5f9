"""Against the real llama.cpp server: an assembled reply is its own whole reply, and counts what its counters count."""

import http.client
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from billing.infra.golden.model import CHAT_TEMPLATE, GOLDEN, model_path
from billing.infra.golden.runner import PROMPT_TOKENS, PROMPT_TOKENS_CACHED, TOKENS_PREDICTED, LlamaServer
from billing.tokens.dialects.openai_text import TextCall
from billing.tokens.dialects.openai_text_assembler import TextAssembler
from billing.tokens.dialects.openai_text_meter import TextStreamMeter
from billing.tokens.engines import LLAMA_CPP
from billing.tokens.operation import Operation
from billing.tokens.prometheus import parse_counters
from billing.tokens.sse import SseFramer, data_of
from tests.call_kit import text_call

CHAT, COMPLETIONS = Operation.CHAT, Operation.COMPLETIONS
DEADLINE_S = 20.0
SLOTS = 4
HELD_BACK_MAX = 8
"""Characters that llama.cpp's stream keeps back at the length limit: half a character, what could begin a stop text."""
REQUESTS_A_GROUP = 30
SEEDS_MAX = 300
# Says how calls are written, so that the server offers tools: " a30", the answer's last token, begins a call.
MESSAGE_END = "{{ message.content or '' }}"
CALLS = (
    "{%- for call in message.tool_calls or [] %}"
    ' a30{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}} r20'
    "{%- endfor -%}"
)
TOOLS_FIRST = "{%- if tools -%}<|im_start|>system\n{%- for tool in tools %}{{ tool | tojson }}{%- endfor %}<|im_end|>\n{% endif -%}\n"
Counters = tuple[int, int, int]
Body = dict[str, Any]


def tools_template() -> str:
    return TOOLS_FIRST + CHAT_TEMPLATE.read_text(encoding="utf-8").replace(MESSAGE_END, MESSAGE_END + CALLS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """The golden model, whose template also knows tools."""
    folder = tmp_path_factory.mktemp("models")
    plain, model = model_path(folder, GOLDEN), folder / "tools.gguf"
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force"]
    subprocess.run(
        [*command, "--chat-template", tools_template(), str(plain), str(model)],
        check=True,
        capture_output=True,
    )
    running = LlamaServer.start(model, "golden", slots=SLOTS, log_path=folder / "log")
    yield running
    running.stop()


def posted(server: LlamaServer, call: TextCall, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    connection.request("POST", call.path, body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    got = reply.read()
    connection.close()
    return reply.status, got


def counted(server: LlamaServer) -> Counters:
    """The engine's own counters once they rest: prompt tokens computed, prompt tokens cached, tokens generated."""
    deadline = time.monotonic() + DEADLINE_S
    before: Counters | None = None
    while time.monotonic() < deadline:
        counters = parse_counters(server.metrics())
        now = (
            int(counters[PROMPT_TOKENS]),
            int(counters[PROMPT_TOKENS_CACHED]),
            int(counters[TOKENS_PREDICTED]),
        )
        if now == before:
            return now
        before = now
        time.sleep(0.02)
    raise AssertionError("the engine did not come to rest")


class Assembled:
    """One call asked as a stream: its assembler, its meter, and what the engine counted meanwhile."""

    def __init__(self, server: LlamaServer, call: TextCall) -> None:
        assembler = call.assembler(LLAMA_CPP, always=True)
        assert assembler is not None
        self.assembler: TextAssembler = assembler
        choices = call.choices_at(LLAMA_CPP)
        self.meter = TextStreamMeter(LLAMA_CPP, call.operation, choices, call.prompts, call.wish)
        before = counted(server)
        status, body = posted(server, call, call.upstream_body(LLAMA_CPP, call.model, stream=True))
        assert status == http.HTTPStatus.OK, body
        for event in SseFramer().feed(body):
            self.meter.see(data_of(event), 0)
            assembler.feed(data_of(event))
        computed, cached, self.output = (
            now - then for then, now in zip(before, counted(server), strict=True)
        )
        self.input, self.cached = computed + cached, cached
        self.reply: Body = msgspec.json.decode(assembler.body())


def asked(operation: Operation, **members: Any) -> TextCall:
    call = text_call(operation, msgspec.json.encode({"model": "golden"} | members))
    call.check(LLAMA_CPP)
    return call


def chat(text: str = "Hello", **members: Any) -> TextCall:
    return asked(CHAT, messages=[{"role": "user", "content": text}], **members)


def own(server: LlamaServer, call: TextCall) -> tuple[int, Body]:
    """What the engine itself answers when it is not asked for a stream."""
    status, body = posted(server, call, call.body)
    return status, msgspec.json.decode(body)


def comparable(reply: Body, *, several: bool) -> Body:
    """A reply without what no two answers share: ids, instants, times; and what one request leaves in the cache for the next."""
    for name in ("id", "created"):
        reply.pop(name)
    times = reply["timings"]
    reply["timings"] = dict.fromkeys(times) | {"predicted_n": times["predicted_n"]}
    usage = reply["usage"]
    usage["prompt_tokens_details"] = sorted(usage["prompt_tokens_details"])
    if several:
        # The engine's own numbers are those of the first choice.
        reply["usage"] = sorted(usage)
    for choice in reply["choices"]:
        for call in choice.get("message", {}).get("tool_calls", []):
            call["id"] = bool(call["id"])
    return reply


def give_held_back(mine: Body, whole: Body) -> None:
    """What the engine's stream kept back at the length limit is no fault of who assembles it."""
    for got, expected in zip(mine["choices"], whole["choices"], strict=True):
        name, had, has = (
            ("text", got, expected) if "text" in got else ("content", got["message"], expected["message"])
        )
        lacks = len(has[name]) - len(had[name])
        held_back = 0 < lacks <= HELD_BACK_MAX and has[name].startswith(had[name])
        if held_back and expected["finish_reason"] == "length":
            had[name] = has[name]


WORDS = ["what", "does", "a", "token", "cost", "in", "the", "café", "🚀", "42", '{"x": 1}', "<think>", "list"]
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"type": "integer"}},
        "required": ["city"]}}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]  # fmt: skip
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {
    "type": "object", "required": ["yes", "list", "text"], "additionalProperties": False, "properties": {
        "yes": {"type": "boolean"}, "text": {"type": "string", "maxLength": 5},
        "list": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}}}}}  # fmt: skip
NO_THINKING: Body = {"chat_template_kwargs": {"enable_thinking": False}}
EVERY_TOKEN: Body = {"top_k": 0, "top_p": 1, "min_p": 0}


def words(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))


def random_request(chance: random.Random) -> TextCall:
    members: Body = {
        "seed": chance.randrange(10**6), "temperature": chance.choice([0, 0.7, 1.0]),
        "max_tokens": chance.choice([40, 60, 120, 200]), "n": chance.choice([1, 1, 2, 3]),
    } | chance.choice([{}, EVERY_TOKEN])  # fmt: skip
    # Without its first token the model says random ones, a few bytes of no Unicode among them.
    bias: list[list[Any]] = chance.choice([[], [["<think>", False]]])
    if chance.random() < 0.25:
        members["stop"] = chance.choice([[" a5"], [" r3"], ["a12", "zz"], ["e"]])
    if chance.random() < 0.2:
        members["n_cmpl"] = chance.choice([1, 2, None])
    if chance.random() < 0.15:
        members["ignore_eos"] = True
    if chance.random() < 0.15:
        members |= {"return_progress": True, "timings_per_token": True}
    if chance.random() < 0.35:
        prompts = [words(chance) for _ in range(chance.randint(1, 4))]
        prompt = chance.choice([prompts, prompts[0], [[5, 6, 7], [8, 9]], [5, 6, 7, 8]])
        return asked(COMPLETIONS, prompt=prompt, logit_bias=bias, **members)
    members |= chance.choice([{}, NO_THINKING, {"reasoning_format": "none"}, {"response_format": SCHEMA}])
    if "response_format" not in members and chance.random() < 0.6:
        members |= {"tools": TOOLS, "tool_choice": chance.choice(["required", "auto"]), "max_tokens": 200}
        members["parallel_tool_calls"] = chance.random() < 0.7
        bias = [*bias, *chance.choice([[], [[" a30", 100]]])]
    return chat(words(chance), logit_bias=bias, **members)


@pytest.mark.parametrize("group", range(4))
def test_random_replies_are_the_engines_own_and_count_what_the_engine_counted(
    server: LlamaServer, group: int
) -> None:
    for number in range(REQUESTS_A_GROUP):
        call = random_request(random.Random(f"{group} {number}"))
        status, whole = own(server, call)
        got = Assembled(server, call)
        assert got.assembler.status() == status
        if status != http.HTTPStatus.OK:
            assert got.reply == whole
            continue
        assert got.assembler.whole
        assert told(got.reply) == (got.input, got.cached, got.output), call.body
        usage = got.meter.usage()
        assert (usage.input.value, usage.output.value) == (got.input, got.output), call.body
        give_held_back(got.reply, whole)
        several = call.choices_at(LLAMA_CPP) * call.prompts > 1
        assert comparable(got.reply, several=several) == comparable(whole, several=several), call.body


def told(reply: Body) -> Counters:
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return (
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
    )


def test_two_choices_of_53_tokens_are_106(server: LlamaServer) -> None:
    got = Assembled(server, chat(n=2))
    assert got.output == got.reply["usage"]["completion_tokens"] == 106
    assert [choice["message"]["content"].endswith(" a30") for choice in got.reply["choices"]] == [True, True]


def test_choices_by_llamacpps_own_name_go_before_n(server: LlamaServer) -> None:
    got = Assembled(server, chat(n=1, n_cmpl=3))
    assert (len(got.reply["choices"]), got.reply["usage"]["completion_tokens"]) == (3, 159)
    assert got.meter.usage().output.value == got.output == 159


def test_every_choice_of_every_prompt_is_there_and_prompts_count_once(server: LlamaServer) -> None:
    call = asked(COMPLETIONS, prompt=["one", "and two of them", [5, 6]], n=2, max_tokens=5)
    got = Assembled(server, call)
    assert [choice["index"] for choice in got.reply["choices"]] == [0, 1, 2, 3, 4, 5]
    assert told(got.reply) == (got.input, got.cached, 30)


def test_calls_are_called_with_their_arguments_after_reasoning_and_an_answer(server: LlamaServer) -> None:
    call = chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=True, seed=1, n=2, **EVERY_TOKEN)
    for choice in Assembled(server, call).reply["choices"]:
        message = choice["message"]
        assert message["reasoning_content"].endswith(" r20")
        assert message["content"].endswith(" a29 ")
        assert {made["function"]["name"] for made in message["tool_calls"]} <= {"weather", "now"}
        for made in message["tool_calls"]:
            assert isinstance(msgspec.json.decode(made["function"]["arguments"]), dict)


def test_an_error_in_the_middle_of_a_stream_is_the_error_of_the_whole_reply(server: LlamaServer) -> None:
    """Some random calls are written so that the engine itself cannot read them back."""
    members: Body = (
        {"temperature": 1.0, "max_tokens": 150, "logit_bias": [[" a30", 8]]} | NO_THINKING | EVERY_TOKEN
    )
    calls = (chat(tools=TOOLS, tool_choice="required", seed=seed, **members) for seed in range(SEEDS_MAX))
    replies = ((call, *own(server, call)) for call in calls)
    call, status, whole = next(reply for reply in replies if reply[1] != http.HTTPStatus.OK)
    got = Assembled(server, call)
    assert (got.assembler.status(), got.reply) == (status, whole)
    assert status == http.HTTPStatus.INTERNAL_SERVER_ERROR
    assert got.meter.failed
    # The engine goes on to the length limit behind its error, and tells nobody.
    assert 0 < (got.meter.usage().output.value or 0) <= got.output


def test_what_llamacpp_does_not_stream_an_assembled_reply_does_not_have(server: LlamaServer) -> None:
    """A reply of nothing but an opening mark: whole it is taken for text, streamed it is held back for good."""
    call = chat(max_tokens=1)
    got = Assembled(server, call)
    assert own(server, call)[1]["choices"][0]["message"]["content"] == "<think>"
    assert got.reply["choices"][0]["message"] == {"role": "assistant", "content": ""}
    assert got.reply["usage"]["completion_tokens"] == got.output == 1
