"""A request body is understood as far as metering must, refused where it would not be counted, and changed least."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.dialects.openai_text import CHOICES_MAX, TextCall
from billing.tokens.dialects.openai_text_meter import Wish
from billing.tokens.engines import LLAMA_CPP, OLLAMA, TGI, VLLM
from billing.tokens.members import END_USER_LENGTH_MAX, MEMBERS_MAX, MODEL_LENGTH_MAX
from billing.tokens.operation import Operation
from tests.call_kit import text_call

SUBJECTS: dict[Operation, dict[str, Any]] = {
    Operation.CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    Operation.COMPLETIONS: {"prompt": "hi"},
    Operation.EMBEDDINGS: {"input": "hi"},
}


def body(operation: Operation = Operation.CHAT, **members: Any) -> bytes:
    return msgspec.json.encode({"model": "tiny"} | SUBJECTS[operation] | members)


def call(operation: Operation = Operation.CHAT, **members: Any) -> TextCall:
    return text_call(operation, body(operation, **members))


@pytest.mark.parametrize("operation", SUBJECTS)
def test_a_plain_request(operation: Operation) -> None:
    got = call(operation)
    assert (got.operation, got.model, got.stream, got.choices, got.prompts) == (
        operation,
        "tiny",
        False,
        1,
        1,
    )
    assert (got.wish, got.end_user) == (Wish(), None)


def test_what_a_client_asks_for() -> None:
    got = call(
        stream=True, n=3, user="ada", timings_per_token=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    )  # fmt: skip
    assert (got.stream, got.choices, got.end_user) == (True, 3, "ada")
    assert got.wish == Wish(usage=True, continuous_usage=True, timings=True)


@pytest.mark.parametrize("asked", [1, "true", None, [], {}, False])
def test_only_true_is_asking(asked: object) -> None:
    got = call(stream=True, stream_options={"include_usage": asked, "continuous_usage_stats": asked})
    assert got.wish == Wish()


def test_null_members_are_absent_members() -> None:
    got = call(stream=None, n=None, user=None, stream_options=None, timings_per_token=None)
    assert (got.stream, got.choices, got.end_user, got.wish) == (False, 1, None, Wish())


NOT_A_BODY = {
    "nothing": b"", "no JSON": b"hello", "a list": b"[]", "null": b"null", "a word": b'"x"', "a number": b"1",
    "half an object": b'{"model":"tiny"', "text behind it": b'{"model":"tiny","messages":[]} x',
    "a byte order mark": b'\xef\xbb\xbf{"model":"tiny","messages":[]}', "bytes": b"\xff\xfe\x00",
    "UTF-16": '{"model":"tiny","messages":[]}'.encode("utf-16"),
    "nesting without end": b'{"model":"tiny","messages":' + b"[" * 100_000, "NaN": b'{"model":"tiny","messages":[],"n":NaN}',
}  # fmt: skip


@pytest.mark.parametrize("raw", NOT_A_BODY.values(), ids=NOT_A_BODY)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="request body"):
        text_call(Operation.CHAT, raw)


NOT_UTF8 = {
    "model": b'{"model":"\xff","messages":[]}',
    "a member's name": b'{"\xff":1,"model":"tiny","messages":[]}',
    "user": b'{"model":"tiny","messages":[],"user":"\xc3"}',
    "stream options": b'{"model":"tiny","messages":[],"stream":true,"stream_options":{"x":"\xff"}}',
    "half a surrogate": b'{"model":"\\ud800","messages":[]}',
}


@pytest.mark.parametrize("raw", NOT_UTF8.values(), ids=NOT_UTF8)
def test_text_that_is_no_unicode_is_refused_and_not_a_crash(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        text_call(Operation.CHAT, raw)


REFUSED: dict[str, tuple[Operation, dict[str, Any], str]] = {
    "no model": (Operation.CHAT, {"model": ""}, "model"),
    "a model that is null": (Operation.CHAT, {"model": None}, "model"),
    "a model that is a number": (Operation.CHAT, {"model": 5}, "model"),
    "a model that is too long": (Operation.CHAT, {"model": "m" * (MODEL_LENGTH_MAX + 1)}, "model"),
    "stream as text": (Operation.CHAT, {"stream": "true"}, "stream"),
    "stream as a number": (Operation.CHAT, {"stream": 1}, "stream"),
    "streamed embeddings": (Operation.EMBEDDINGS, {"stream": True}, "stream"),
    "messages as text": (Operation.CHAT, {"messages": "hi"}, "messages"),
    "messages that are null": (Operation.CHAT, {"messages": None}, "messages"),
    "a prompt that is null": (Operation.COMPLETIONS, {"prompt": None}, "prompt"),
    "a prompt that is an object": (Operation.COMPLETIONS, {"prompt": {"prompt_string": "x"}}, "prompt"),
    "a prompt of no prompts": (Operation.COMPLETIONS, {"prompt": []}, "prompt"),
    "an input that is a number": (Operation.EMBEDDINGS, {"input": 5}, "input"),
    "no choices": (Operation.CHAT, {"n": 0}, "n"),
    "less than no choices": (Operation.CHAT, {"n": -1}, "n"),
    "too many choices": (Operation.CHAT, {"n": CHOICES_MAX + 1}, "n"),
    "choices as text": (Operation.CHAT, {"n": "2"}, "n"),
    "choices as a fraction, which llama.cpp would take": (Operation.CHAT, {"n": 2.0}, "n"),
    "choices as true": (Operation.CHAT, {"n": True}, "n"),
    "stream options as text": (Operation.CHAT, {"stream_options": "x"}, "stream_options"),
    "stream options as a list": (Operation.CHAT, {"stream_options": []}, "stream_options"),
    "a user that is a number": (Operation.CHAT, {"user": 5}, "user"),
    "a user that is too long": (Operation.CHAT, {"user": "u" * (END_USER_LENGTH_MAX + 1)}, "user"),
    "timings as a number": (Operation.CHAT, {"timings_per_token": 1}, "timings_per_token"),
}


@pytest.mark.parametrize(("operation", "members", "param"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_member_is_refused_by_its_name(
    operation: Operation, members: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        call(operation, **members)
    assert refusal.value.param == param
    assert param in str(refusal.value)


@pytest.mark.parametrize(
    ("operation", "param"), list(zip(SUBJECTS, ["messages", "prompt", "input"], strict=True))
)
def test_a_request_must_have_its_subject(operation: Operation, param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        text_call(operation, b'{"model":"tiny"}')
    assert refusal.value.param == param


def test_the_largest_values_are_accepted() -> None:
    extra = {f"x{number}": 0 for number in range(MEMBERS_MAX - 4)}
    got = call(model="m" * MODEL_LENGTH_MAX, user="u" * END_USER_LENGTH_MAX, n=CHOICES_MAX, **extra)
    assert got.choices == CHOICES_MAX
    with pytest.raises(InvalidInput, match="201 members, more than 200"):
        call(user="u", n=1, one_more=0, **extra)


@pytest.mark.parametrize("secret", ["a very secret prompt", "9" * 30])
def test_no_text_of_a_prompt_is_repeated_in_an_error(secret: str) -> None:
    for operation, members in ((Operation.CHAT, {"messages": secret}), (Operation.CHAT, {"user": [secret]})):
        with pytest.raises(InvalidInput) as refusal:
            call(operation, **members)
        assert secret not in str(refusal.value)


PROMPTS = {
    "one text": ("x", 1), "one text in a list": (["x"], 1), "two texts": (["x", "y"], 2), "token numbers": ([1, 2, 3], 1),
    "lists of token numbers": ([[1], [2], [3]], 3), "objects": ([{"prompt_string": "x"}, {"prompt_string": "y"}], 2),
    "numbers and text mixed, one prompt to llama.cpp": ([1, "x", 2], 1),
}  # fmt: skip


@pytest.mark.parametrize(("prompt", "count"), PROMPTS.values(), ids=PROMPTS)
def test_prompts_are_counted_as_the_engine_does(prompt: object, count: int) -> None:
    assert call(Operation.COMPLETIONS, prompt=prompt).prompts == count


def test_white_space_does_not_hide_a_list_of_prompts() -> None:
    raw = b'{ "model" : "tiny" , "prompt" :\n[ "a" ,\t"b" ] , "n" : 1 }'
    assert text_call(Operation.COMPLETIONS, raw).prompts == 2


def test_an_escaped_member_name_is_the_same_member() -> None:
    assert text_call(Operation.CHAT, b'{"model":"tiny","messages":[],"\\u006e":2}').choices == 2


SEVERAL: dict[str, tuple[Operation, dict[str, Any], int]] = {
    "several choices": (Operation.CHAT, {"n": 2}, 2),
    "several choices, streamed": (Operation.CHAT, {"n": 2, "stream": True}, 2),
    "several choices of a completion": (Operation.COMPLETIONS, {"n": 3}, 3),
    "llama.cpp's own name for several choices": (Operation.CHAT, {"n_cmpl": 2}, 2),
    "its own name goes before n": (Operation.CHAT, {"n": 1, "n_cmpl": 2}, 2),
    "several prompts": (Operation.COMPLETIONS, {"prompt": ["a", "b"]}, 1),
    "several tokenized prompts": (Operation.COMPLETIONS, {"prompt": [[1], [2]]}, 1),
}


@pytest.mark.parametrize(("operation", "members", "choices"), SEVERAL.values(), ids=SEVERAL)
def test_what_llamacpp_does_not_count_whole_is_asked_for_as_a_stream(
    operation: Operation, members: dict[str, Any], choices: int
) -> None:
    several = call(operation, **members)
    several.check(LLAMA_CPP)
    assert several.choices_at(LLAMA_CPP) == choices
    assert (several.assembler(LLAMA_CPP) is None) == several.stream
    assert several.assembler(VLLM) is None


def test_what_an_engine_counts_nowhere_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"best_of must be 1 for tiny.*llama\.cpp") as refusal:
        call(Operation.COMPLETIONS, best_of=2).check(LLAMA_CPP)
    assert refusal.value.param == "best_of"
    for operation, members, _ in SEVERAL.values():
        with pytest.raises(InvalidInput, match="Ollama"):
            call(operation, **members).check(OLLAMA)


@pytest.mark.parametrize("choices", [2.0, 1.5, "2", True, 0, -1, 2 - 2**32])
def test_what_llamacpp_makes_of_another_kind_of_number_is_not_tried(choices: object) -> None:
    # It cuts a number to 32 bits: 2 − 2³² is 2 to it (measured).
    with pytest.raises(InvalidInput) as refusal:
        call(n_cmpl=choices).check(LLAMA_CPP)
    assert refusal.value.param == "n_cmpl"


@pytest.mark.parametrize(("operation", "members", "_choices"), SEVERAL.values(), ids=SEVERAL)
def test_vllm_counts_all_of_it(operation: Operation, members: dict[str, Any], _choices: int) -> None:
    call(operation, **members).check(VLLM)


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        (Operation.CHAT, {"n": 1, "n_cmpl": 1, "best_of": 1}),
        (Operation.CHAT, {"n": None, "n_cmpl": None}),
        (Operation.COMPLETIONS, {"prompt": ["a"]}),
        (Operation.COMPLETIONS, {"prompt": [1, 2, 3]}),
        (Operation.EMBEDDINGS, {"input": ["a", "b", "c"]}),
    ],
)
def test_llamacpp_counts_one_of_each_and_many_embeddings(
    operation: Operation, members: dict[str, Any]
) -> None:
    call(operation, **members).check(LLAMA_CPP)


def sent(raw: bytes, operation: Operation = Operation.CHAT, engine: Any = VLLM, model: str = "tiny") -> bytes:
    got = text_call(operation, raw)
    return got.upstream_body(engine, model, stream=got.stream)


def test_a_body_that_needs_no_change_goes_out_as_it_came() -> None:
    raw = b'{ "model":"tiny", "messages":[ ], "x":1.0 , "z":"\\u00e9" }'
    assert sent(raw) is raw
    assert sent(raw, engine=LLAMA_CPP) is raw


def test_only_the_model_changes_in_a_whole_request() -> None:
    raw = b'{"x":1.50,"model":"tiny","messages":[{"content": "\\u00e9"}],"z":1e400}'
    assert (
        sent(raw, model="weights")
        == b'{"x":1.50,"model":"weights","messages":[{"content": "\\u00e9"}],"z":1e400}'
    )


def test_a_stream_asks_vllm_for_usage_on_every_event() -> None:
    assert sent(b'{"model":"tiny","messages":[],"stream":true}') == (
        b'{"model":"tiny","messages":[],"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}'
    )


def test_a_stream_asks_llamacpp_for_usage_and_timings_whatever_the_client_said() -> None:
    raw = b'{"model":"tiny","messages":[],"timings_per_token":false,"stream":true,"stream_options":{"include_usage":false,"x":1}}'
    assert sent(raw, engine=LLAMA_CPP) == (
        b'{"model":"tiny","messages":[],"timings_per_token":true,"stream":true,"stream_options":{"include_usage":true,"x":1}}'
    )


def test_null_stream_options_are_filled() -> None:
    assert msgspec.json.decode(sent(body(stream=True, stream_options=None)))["stream_options"] == {
        "include_usage": True, "continuous_usage_stats": True,
    }  # fmt: skip


def test_a_whole_request_is_not_asked_for_stream_options() -> None:
    assert b"stream_options" not in sent(body(stream=False), model="weights")


@pytest.mark.parametrize("name", ["n", "stream", "prompt"])
def test_a_member_that_stands_twice_reaches_the_engine_once_in_an_edited_body(name: str) -> None:
    raw = b'{"model":"tiny","prompt":["a","b"],"n":2,"stream":false,"prompt":"a","n":1,"stream":true}'
    call = text_call(Operation.COMPLETIONS, raw)
    call.check(LLAMA_CPP)
    members = call.upstream_body(LLAMA_CPP, "tiny", stream=call.stream)
    assert members.count(b'"%s":' % name.encode()) == 1
    assert msgspec.json.decode(members)[name] == {"n": 1, "stream": True, "prompt": "a"}[name]


@pytest.mark.parametrize("user", ["a\0b", "\x1b[31m", "a\u009b31m", "\x7f", "a\nb"])
def test_a_user_with_a_control_character_is_refused(user: str) -> None:
    body = msgspec.json.encode({"model": "m", "messages": [], "user": user})
    with pytest.raises(InvalidInput, match="control character") as fault:
        text_call(Operation.CHAT, body)
    assert fault.value.param == "user"


@pytest.mark.parametrize(
    ("members", "bound"),
    [
        ({}, 1000),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 7, "max_tokens": 9}, 9),
        ({"n_predict": 0}, 1),
        ({"max_tokens": 1, "n_predict": -1}, 1000),
        ({"max_tokens": 1, "n_cmpl": 4}, 4),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": None}, 1000),
        ({"max_tokens": -1}, 1000),
        ({"max_tokens": "many"}, 1000),
        ({"max_tokens": 2**60}, 1000),
    ],
)
def test_the_output_that_a_call_may_use(members: dict[str, Any], bound: int) -> None:
    assert call(**members).output_bound(1000) == bound


def test_each_prompt_of_a_completion_may_use_it_and_embeddings_use_none() -> None:
    assert call(Operation.COMPLETIONS, prompt=["a", "b"], max_tokens=5).output_bound(1000) == 10
    assert call(Operation.EMBEDDINGS).output_bound(1000) == 0


def test_more_prompts_than_can_be_told_apart_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(InvalidInput, match="2049 prompts, more than 2048") as refusal:
        call(Operation.COMPLETIONS, prompt=["x"] * 2_049)
    assert refusal.value.param == "prompt"
    with pytest.raises(InvalidInput, match="asks for 2050 choices"):
        call(Operation.COMPLETIONS, prompt=["x"] * 1_025, n=2).check(VLLM)
    assert call(Operation.COMPLETIONS, prompt=list(range(100_000))).prompts == 1


def test_an_engine_that_makes_one_choice_whatever_is_asked_is_counted_so() -> None:
    assert call(n=2).choices_at(TGI) == 1
    call(n=2).check(TGI)


def test_a_client_that_wants_the_timings_keeps_the_last_ones() -> None:
    """Where a usage event comes, llama.cpp writes the last timings on it and not on the last chunk."""
    asked = call(stream=True, timings_per_token=True)
    assert "stream_options" not in msgspec.json.decode(asked.upstream_body(LLAMA_CPP, "tiny", stream=True))
    both = call(stream=True, timings_per_token=True, stream_options={"include_usage": True})
    sent_both = msgspec.json.decode(both.upstream_body(LLAMA_CPP, "tiny", stream=True))
    assert sent_both["stream_options"] == {"include_usage": True}
