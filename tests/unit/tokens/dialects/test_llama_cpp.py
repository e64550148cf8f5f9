"""A request in llama.cpp's own dialect becomes a call: what it asks for, and what the engine is asked."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Asked
from billing.tokens.dialects.llama_cpp import CHOICES_MAX, RESPONSE_FIELDS_MAX, NativeCall, parse
from billing.tokens.dialects.llama_cpp_fields import COUNT_FIELDS
from billing.tokens.dialects.routes import PATHS
from billing.tokens.engines import LLAMA_CPP
from billing.tokens.operation import Dialect, Operation
from billing.tokens.tally import ANSWERS_MAX


def native(raw: bytes, path: str = "/completion") -> Any:
    return PATHS[path].parse(Asked(PATHS[path].operation, path, raw))


def call(**members: Any) -> NativeCall:
    asked: NativeCall = native(msgspec.json.encode({"prompt": "Hello", **members}))
    return asked


def sent(raw: bytes, *, model: str = "", stream: bool = False) -> bytes:
    body: bytes = native(raw).upstream_body(LLAMA_CPP, model, stream=stream)
    return body


@pytest.mark.parametrize("path", ["/completion", "/completions", "/infill", "/tokenize", "/detokenize"])
def test_each_path_is_served_by_the_engine_that_speaks_it(path: str) -> None:
    asked = native(b'{"prompt":"x"}', path)
    assert (asked.dialect, asked.path, asked.operation) == (Dialect.LLAMA_CPP, path, PATHS[path].operation)
    assert (asked.dialect, asked.operation) in LLAMA_CPP.serves


def test_a_model_may_be_left_out() -> None:
    assert call().model == ""
    assert call(model="tiny").model == "tiny"


PROMPTS: dict[str, tuple[object, int]] = {
    "a text": ("x", 1), "one text in an array": (["x"], 1), "two texts": (["x", "y"], 2), "tokens": ([1, 2, 3], 1),
    "two arrays of tokens": ([[1], [2]], 2), "an array of tokens and a text": ([[1, "x"], "y"], 2),
    "tokens before text": ([1, "x"], 1), "text before tokens": (["x", 1, "y"], 1), "negative tokens": (["x", -1], 1),
    "text and media": ({"prompt_string": "x", "multimodal_data": []}, 1),
    "two of them": ([{"prompt_string": "x"}, {"prompt_string": "y"}], 2), "an empty text": ("", 1),
}  # fmt: skip


@pytest.mark.parametrize(("prompt", "count"), PROMPTS.values(), ids=PROMPTS)
def test_prompts_are_counted_as_the_engine_does(prompt: object, count: int) -> None:
    assert call(prompt=prompt).prompts == count


@pytest.mark.parametrize(
    ("members", "choices"),
    [({}, 1), ({"n": 3}, 3), ({"n_cmpl": 2}, 2), ({"n": 3, "n_cmpl": 2}, 2), ({"n": 3, "n_cmpl": None}, 3)],
)
def test_its_own_word_for_choices_goes_before_the_other(members: dict[str, Any], choices: int) -> None:
    assert call(**members).choices == choices


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no prompt": ({"prompt": None}, "prompt"),
    "a prompt that is a number": ({"prompt": 5}, "prompt"),
    "no prompts": ({"prompt": []}, "prompt"),
    "too many answers": ({"prompt": ["x"] * (ANSWERS_MAX // 2 + 1), "n": 2}, "prompt"),
    "no choice": ({"n": 0}, "n"),
    "too many choices": ({"n_cmpl": CHOICES_MAX + 1}, "n_cmpl"),
    "half a choice": ({"n": 1.5}, "n"),
    "a choice in 33 bits, of which the engine reads 32": ({"n": 2**32 + 2}, "n"),
    "true for a choice": ({"n": True}, "n"),
    "a word for the stream": ({"stream": "yes"}, "stream"),
    "a number for timings": ({"timings_per_token": 1}, "timings_per_token"),
    "too many fields": ({"response_fields": ["x"] * (RESPONSE_FIELDS_MAX + 1)}, "response_fields"),
    "a number for a model": ({"model": 5}, "model"),
}


@pytest.mark.parametrize(("members", "param"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_member_is_refused_by_its_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        call(**members)
    assert refusal.value.param == param
    assert param in str(refusal.value)


def test_a_request_must_have_its_prompt_and_an_infill_need_not() -> None:
    with pytest.raises(InvalidInput, match="you must provide prompt"):
        native(b"{}")
    assert native(b'{"input_prefix":"x","input_suffix":"y"}', "/infill").prompts == 1


def test_no_text_of_a_prompt_is_repeated_in_an_error() -> None:
    for body in (b'{"prompt":9999999999}', b'["a very secret prompt"]', b'{"prompt":"a very secret prompt"'):
        with pytest.raises(InvalidInput) as refusal:
            native(body)
        assert "secret" not in str(refusal.value)


BOUNDS: dict[str, tuple[dict[str, Any], int]] = {
    "unsaid": ({}, 1000),
    "its own word": ({"n_predict": 7}, 7),
    "endless": ({"n_predict": -1, "max_tokens": 7}, 1000),
    "null is unsaid": ({"n_predict": None, "max_tokens": 7}, 7),
    "its own word goes before the others": ({"n_predict": 7, "max_tokens": 9}, 7),
    "of the others the larger": ({"max_completion_tokens": 7, "max_tokens": 9}, 9),
    "zero, which generates one": ({"n_predict": 0}, 1),
    "each choice": ({"n_predict": 7, "n": 2}, 14),
    "each prompt": ({"n_predict": 0, "n": 2, "prompt": ["a", "b", "c"]}, 6),
}


@pytest.mark.parametrize(("members", "bound"), BOUNDS.values(), ids=BOUNDS)
def test_the_output_that_a_call_may_use(members: dict[str, Any], bound: int) -> None:
    assert call(**members).output_bound(1000) == bound


def test_a_body_that_needs_no_change_goes_out_as_it_came() -> None:
    raw = b'{ "prompt":"x", "response_fields":[ ], "id_slot":0, "cache_prompt":true, "n_probs":2, "z":1e400 }'
    assert sent(raw) is raw


def test_the_backends_name_of_the_model_is_written_whether_the_client_gave_one_or_not() -> None:
    assert sent(b'{"model":"tiny","prompt":"x"}', model="weights") == b'{"model":"weights","prompt":"x"}'
    assert sent(b'{"prompt":"x"}', model="weights") == b'{"prompt":"x","model":"weights"}'


def test_a_stream_is_asked_for_timings_on_each_token() -> None:
    assert sent(b'{"prompt":"x","stream":true,"timings_per_token":false}', stream=True) == (
        b'{"prompt":"x","stream":true,"timings_per_token":true}'
    )


def test_a_whole_request_may_be_asked_as_a_stream() -> None:
    assert msgspec.json.decode(sent(b'{"prompt":"x"}', stream=True)) == {
        "prompt": "x", "stream": True, "timings_per_token": True,
    }  # fmt: skip


def test_the_counts_are_asked_for_beside_the_fields_of_the_client() -> None:
    body = msgspec.json.decode(sent(b'{"prompt":"x","response_fields":["content","stop","content"]}'))
    assert body["response_fields"] == ["content", "stop", *(name for name in COUNT_FIELDS if name != "stop")]


@pytest.mark.parametrize("fields", [None, [], "content", ["content", 5], {"content": 1}, 5])
def test_what_the_engine_does_not_take_for_a_list_of_fields_asks_for_all(fields: object) -> None:
    # Measured: it answers whole to each of these.
    asked = call(response_fields=fields)
    assert asked.view.fields == ()
    assert asked.upstream_body(LLAMA_CPP, "", stream=False) is asked.body


def test_of_a_member_that_stands_twice_the_last_holds_for_both() -> None:
    asked = native(
        b'{"prompt":["x","y"],"prompt":"x","response_fields":["content"],"response_fields":["index"]}'
    )
    assert (asked.prompts, asked.view.fields) == (1, ("index",))


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_tokenizing_uses_nothing(path: str) -> None:
    raw = b'{"content":"Hello","tokens":[1],"stream":true,"with_pieces":true}'
    asked = native(raw, path)
    assert asked.upstream_body(LLAMA_CPP, "", stream=False) is raw
    assert msgspec.json.decode(asked.upstream_body(LLAMA_CPP, "weights", stream=False))["model"] == "weights"
    assert (asked.stream, asked.output_bound(1000), asked.stream_meter(LLAMA_CPP).usage().output.value) == (
        False,
        0,
        None,
    )
    usage = asked.reply_meter(LLAMA_CPP, b'{"tokens":[1,2]}').usage()
    assert (usage.input.value, usage.output.value, usage.input.provenance) == (0, 0, "reported")


def test_a_client_that_wants_a_stream_has_nothing_assembled() -> None:
    assert call(stream=True).assembler(LLAMA_CPP, always=True) is None
    assert call().assembler(LLAMA_CPP, always=True) is not None


@pytest.mark.parametrize("name", ["n_probs", "logprobs"])
def test_probabilities_before_a_stop_word_are_not_assembled(name: str) -> None:
    # The whole reply leaves out those of the stop word's own tokens, whose number no stream tells.
    assert call(**{name: 2, "stop": ["x"]}).assembler(LLAMA_CPP, always=True) is None
    assert call(**{name: 2}).assembler(LLAMA_CPP, always=True) is not None


def test_the_operation_decides_what_is_read() -> None:
    assert parse(Asked(Operation.TOKENIZE, "/tokenize", b"{}")).output_max is None
    with pytest.raises(InvalidInput):
        parse(Asked(Operation.TOKENIZE, "/tokenize", b"[]"))
