"""However a reply is cut into events, its pieces make it again; damage and noise cost no more than what they hit."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.dialects.openai_text_assembler import TextAssembler
from billing.tokens.engines import ENGINES, GENERIC, LLAMA_CPP
from billing.tokens.operation import Operation

CHOICES = 2
Event = dict[str, Any]

texts = st.text(max_size=12)
calls = st.builds(
    lambda name, arguments: {
        "id": f"call_{name}",
        "type": "function",
        "function": {"name": f"f{name}", "arguments": arguments},
    },
    texts,
    texts,
)
messages = st.fixed_dictionaries(
    {"content": texts.filter(bool)},
    optional={
        "reasoning_content": texts.filter(bool),
        "refusal": texts.filter(bool),
        "tool_calls": st.lists(calls, min_size=1, max_size=3),
    },
)
logprobs = st.none() | st.fixed_dictionaries(
    {"content": st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1)}
)
answers = st.tuples(messages, logprobs, st.sampled_from(["stop", "length", "tool_calls"]))


def cut(draw: st.DrawFn, text: str) -> list[str]:
    edge = draw(st.integers(0, len(text)))
    return [text[:edge], text[edge:]]


def deltas_of(draw: st.DrawFn, message: dict[str, Any]) -> list[Event]:
    """The message in deltas: each text in two pieces, each call's head, then its arguments in two pieces."""
    deltas: list[Event] = []
    for name, value in message.items():
        if isinstance(value, str):
            deltas += [{name: piece} for piece in cut(draw, value)]
            continue
        for index, call in enumerate(value):
            head = call | {"function": {"name": call["function"]["name"]}}
            deltas.append({name: [{"index": index} | head]})
            deltas += [
                {name: [{"index": index, "function": {"arguments": piece}}]}
                for piece in cut(draw, call["function"]["arguments"])
            ]
    return deltas


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Any], list[bytes]]:
    """Whole answers, and the events of one stream that says them, its choices interleaved at random."""
    whole = draw(st.lists(answers, min_size=CHOICES, max_size=CHOICES))
    queues = []
    for index, (message, probabilities, finish) in enumerate(whole):
        events = [{"index": index, "delta": delta} for delta in deltas_of(draw, message)]
        said = (probabilities or {}).get("content", [])
        events += [{"index": index, "delta": {}, "logprobs": {"content": [value]}} for value in said]
        queues.append([*events, {"index": index, "delta": {}, "finish_reason": finish}])
    order = draw(st.permutations([index for index, queue in enumerate(queues) for _ in queue]))
    return whole, [msgspec.json.encode({"id": "c", "choices": [queues[index].pop(0)]}) for index in order]


def assembled(events: list[bytes]) -> TextAssembler:
    assembler = TextAssembler(GENERIC, Operation.CHAT, CHOICES)
    for event in events:
        assembler.feed(event)
    return assembler


@given(streams())
def test_the_pieces_of_an_answer_make_it_again(stream: tuple[list[Any], list[bytes]]) -> None:
    whole, events = stream
    assembler = assembled(events)
    reply = msgspec.json.decode(assembler.body())
    assert assembler.whole
    assert [choice["index"] for choice in reply["choices"]] == list(range(CHOICES))
    for choice, (message, probabilities, finish) in zip(reply["choices"], whole, strict=True):
        assert choice["message"] == {"role": "assistant"} | message
        assert (choice["logprobs"], choice["finish_reason"]) == (probabilities, finish)


@given(streams(), st.lists(st.binary(max_size=30), min_size=1), st.randoms(use_true_random=False))
def test_noise_between_the_events_changes_nothing(
    stream: tuple[list[Any], list[bytes]], noise: list[bytes], random: Any
) -> None:
    events = stream[1]
    noisy = list(events)
    for piece in noise:
        noisy.insert(random.randrange(len(noisy) + 1), b"[" + piece)
    assert assembled(noisy).body() == assembled(events).body()


@given(streams(), st.data())
def test_a_stream_that_breaks_off_is_not_whole_and_holds_what_came(
    stream: tuple[list[Any], list[bytes]], data: st.DataObject
) -> None:
    whole, events = stream
    broken = assembled(events[: data.draw(st.integers(0, len(events) - 1))])
    assert not broken.whole
    for choice in msgspec.json.decode(broken.body())["choices"]:
        message, _, _ = whole[choice["index"]]
        assert message["content"].startswith(choice["message"]["content"] or "")


words = st.sampled_from(
    [
        "choices",
        "index",
        "delta",
        "content",
        "tool_calls",
        "function",
        "arguments",
        "usage",
        "error",
        "logprobs",
    ]
)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(words, json_like, max_size=5), max_size=6), st.sampled_from(sorted(ENGINES)))
def test_no_event_of_any_shape_is_a_crash_and_the_reply_is_json(events: list[Event], engine: str) -> None:
    for operation in (Operation.CHAT, Operation.COMPLETIONS):
        assembler = TextAssembler(ENGINES[engine], operation, 2, 2)
        for event in events:
            assembler.feed(msgspec.json.encode(event))
        assert assembler.size() >= 0
        assert isinstance(msgspec.json.decode(assembler.body()), dict)
        assert assembler.status() in range(200, 600)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_are_a_crash(events: list[bytes]) -> None:
    assembler = TextAssembler(LLAMA_CPP, Operation.CHAT, 2)
    for event in events:
        assembler.feed(event)
        assembler.feed(b'{"choices":[{"index":0,"delta":{"content":"' + event + b'"}}]}')
    assert assembler.body().startswith(b"{")


@given(st.lists(texts, max_size=20))
def test_what_is_held_is_never_less_than_what_the_reply_weighs(pieces: list[str]) -> None:
    events = [
        msgspec.json.encode({"id": "c", "choices": [{"index": 0, "delta": {"content": piece}}]})
        for piece in pieces
    ]
    assembler = assembled(events)
    text = "".join(pieces)
    assert assembler.size() >= len(msgspec.json.encode(text)) - 2
